/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The steering program: is this frame ours (to the AF_XDP socket of its queue) or not (to the kernel)?
 *
 *   ours      destination is a service, or a whole-address one             (service, service_any_port)
 *             source is a NAT server, destination is not this host         (nat_return)
 *             source is a FULLNAT server, destination is a local address and one of its ports (full_nat_return)
 *             AH or ESP, where ISAKMP between the same two would be        (these)
 *             in a range: protocol, networks and ports                     (service_range)
 *             fragment to a VIP, or from a NAT server and not to this host, or from a FULLNAT server to a local
 *             address                                                      (fragment)
 *             ICMP error about a packet whose answer would be ours, or
 *             about one from this host through a tunnel to a server        (icmp_error)
 *   not ours  everything else: ARP, ND, ping, ssh, VRRP, routing protocols, replies to health checks, and
 *             whatever is truncated or malformed: the kernel stays the host's stack and the judge of errors
 *
 * And none of it is ours unless it is sent to the MAC address of the interface it arrived at  (pass_other_mac):
 * a promiscuous interface and a bridge that floods show frames of other machines, and with DR the servers hold
 * the VIP too. VLAN interfaces and bonds have the address of what they are made of. One with an address of its
 * own, such as a macvlan for a virtual router's MAC, is the kernel's, with all that is sent to that address.
 *
 * Nothing else is decided here: which server, which connection, what is dropped is user space's business. Packets of
 * established connections that user space has offloaded do not come up to it, though: offload.bpf.h readdresses and
 * redirects them as their recipe says                                                     (offloaded)
 *
 * Each frame counts in exactly one outcome. What was in any other frame is never written to; one to a service whose
 * servers are behind tunnels gets room in front of it, since user space cannot move its beginning:
 *
 *   | MAC addresses again | ROOM_MARK | room in bytes | ... | the frame as it came |
 *   0                     12          14              16    room
 *
 *   headers, extensions, checksum   packets: their headers, a walk along those of IPv6, sums
 *   rules, judge                    what user space says is ours; whose a frame is by that
 *   ports, sockets                  the interfaces; upwards, with room
 *   flows, offload, wrap            offloaded flows; what is done to their packets; tunnels
 *   counters, cpu                   outcomes and reasons; what else each CPU has for itself
 */
#include "counters.bpf.h"
#include "judge.bpf.h"
#include "offload.bpf.h"
#include "ports.bpf.h"
#include "sockets.bpf.h"

SEC(XDP)
int steer(struct xdp_md *ctx)
{
	__u32 place = find_place(ctx->ingress_ifindex);
	__u32 room = 0;
	enum outcome outcome;
	void *frame;

	if (offloads) {
		int action = carry(ctx, place);

		if (action != COMES_UP) {
			count(OUTCOME_OFFLOADED);
			return action;
		}
	}
	frame = (void *)(long)ctx->data;
	outcome = judge(ctx, frame, (void *)(long)ctx->data_end, &room);
	if (outcome < OUTCOME_NO_SOCKET)
		outcome = to_socket(ctx, place, frame, outcome);
	if (room && outcome < OUTCOME_NO_SOCKET)
		make_room(ctx, room);
	count(outcome);
	return outcome < OUTCOME_NO_SOCKET ? XDP_REDIRECT : XDP_PASS;
}

/* Takes the place of the other for its last moments: see leave.rs. */
SEC(XDP)
int quiet(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
