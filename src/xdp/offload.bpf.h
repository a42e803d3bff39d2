/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Packets of offloaded flows, readdressed and sent on without coming up to user space. What flows are: flows.bpf.h.
 */
#ifndef XVS_OFFLOAD_H
#define XVS_OFFLOAD_H

#include "counters.bpf.h"
#include "cpu.bpf.h"
#include "wrap.bpf.h"

/* Not the XDP program's business: no action has this number. */
#define COMES_UP (-1)

/*
 * Whether a packet of which `len` bytes are left from `transport` on changes nothing in its connection. If so, its transport
 * header is whole, and it has a checksum to be mended unless that is SCTP's, which has no addresses in it.
 */
INLINE enum why judge_state(__u8 protocol, void *transport, __u32 len, void *end, __sum16 **checksum)
{
	if (protocol == IPPROTO_TCP) {
		struct tcphdr *tcp = transport;

		if ((void *)(tcp + 1) > end || tcp->doff < 5 || tcp->doff * 4u > len)
			return WHY_HEADER;
		*checksum = &tcp->check;
		return tcp->syn || tcp->fin || tcp->rst || !tcp->ack ? WHY_STATE : FITS;
	}
	if (protocol == IPPROTO_UDP) {
		struct udphdr *udp = transport;

		if ((void *)(udp + 1) > end || HOST16(udp->len) < sizeof(*udp) || HOST16(udp->len) > len)
			return WHY_HEADER;
		*checksum = &udp->check;
		return FITS;
	} else {
		struct sctp *sctp = transport;

		if (len < sizeof(*sctp) || (void *)(sctp + 1) > end)
			return WHY_HEADER;
		/* The first one decides for IPVS. */
		return sctp->chunk == SCTP_DATA || sctp->chunk == SCTP_SACK || sctp->chunk == SCTP_HEARTBEAT ||
				       sctp->chunk == SCTP_HEARTBEAT_ACK
			       ? FITS
			       : WHY_STATE;
	}
}

/* A SYN is never carried, and would be of no flow but by chance: nobody looks for one. */
INLINE int is_syn(void *transport, void *end)
{
	struct tcphdr *tcp = transport;

	return (void *)(tcp + 1) <= end && tcp->syn;
}

/* How a frame came. */
struct arrival {
	__u32 place; /* of its interface's port */
	__u16 vlan; /* 0: none; with a tag, that says a priority alone */
	__u16 is_tagged;
};

/* The way of a packet. */
struct way {
	struct tally *tally;
	struct station *station;
};

/* Whether the packet of `len` bytes may go, and which way. */
INLINE enum why find_way(struct xdp_md *ctx, struct arrival *at, struct flow *flow, __u32 len, struct way *way)
{
	__u32 zero = 0, more = overhead(flow), *number;
	struct tally *tally = map_lookup(&tallies, &flow->place);
	struct current *now = map_lookup(&current, &zero);
	void *frame = (void *)(long)ctx->data;
	struct station *station;
	struct port *port;

	if (!tally || tally->serial != flow->serial)
		return WHY_ENDED;
	if (!now || tally->services != now->services || tally->routes != now->routes)
		return WHY_CHANGED;
	number = map_lookup(&hops, &flow->hop);
	if (!number || !*number)
		return WHY_NO_HOP;
	station = map_lookup(&stations, number);
	if (!station)
		return WHY_NO_HOP;
	port = map_lookup(&ports, &at->place);
	if (!port || frame + sizeof(struct ethhdr) > (void *)(long)ctx->data_end || !is_to(port, frame))
		return WHY_OTHER_MAC;
	/* A tag of priority alone is not put before an outer packet. */
	if (at->vlan != station->vlan || (more && !at->vlan != !at->is_tagged))
		return WHY_VLAN;
	if (len + more > station->mtu ||
	    (more && station->mtu < more + (flow->l4 & OUTER_V6 ? LEAST_MTU_V6 : LEAST_MTU)))
		return WHY_TOO_LONG;
	/*
	 * What is in the map and what is redirected to may differ for a moment: last of all that may fail but room. Redirected, too, what
	 * leaves by where it came from: a stream through veth's XDP_TX stalled (Linux 6.18), through its redirect it does not.
	 */
	if (redirect_map(&exits, station->exit, 0) != XDP_REDIRECT)
		return WHY_NO_EXIT;
	way->tally = tally;
	way->station = station;
	return FITS;
}

/* Gives the packet the ports of its flow, and mends its checksum if that has them in it. */
INLINE void set_ports(struct transport_ports *ports, __u8 protocol, __sum16 *checksum, struct flow *flow)
{
	ports->source = flow->source_port;
	ports->destination = flow->destination_port;
	/* Zero is "no checksum" with UDP, and all ones is what its sum is sent as if it is zero (RFC 768). */
	if (!checksum || (protocol == IPPROTO_UDP && !*checksum))
		return;
	*checksum = mended(*checksum, flow->l4);
	if (protocol == IPPROTO_UDP && !*checksum)
		*checksum = 0xffff;
}

/* Sends a packet of `len` bytes on its way. */
INLINE int leave(struct xdp_md *ctx, struct way *way, __u32 len)
{
	void *frame = (void *)(long)ctx->data;

	if (frame + sizeof(way->station->macs) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	*(struct macs *)frame = way->station->macs;

	/* The queues of an interface run on several CPUs. */
	__sync_fetch_and_add(&way->tally->packets, 1);
	__sync_fetch_and_add(&way->tally->bytes, len);
	way->tally->seen_ns = now_ns();
	return XDP_REDIRECT;
}

/* Counts why a packet of a flow comes up. */
INLINE int come_up(__u32 why)
{
	count_why(why);
	return COMES_UP;
}

/* Sends the packet of a flow, of `len` bytes at `ip`, on its way if nothing speaks against it. */
INLINE int forward(struct xdp_md *ctx, struct arrival *at, struct flow *flow, void *ip, __u8 protocol, __u32 len, int is_v4)
{
	__u32 header_len = is_v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	void *transport = ip + header_len, *end = (void *)(long)ctx->data_end;
	struct ipv6hdr *v6 = ip;
	struct iphdr *v4 = ip;
	__sum16 *checksum = 0;
	struct way way;
	enum why why;

	why = judge_state(protocol, transport, len - header_len, end, &checksum);
	if (why == FITS)
		why = find_way(ctx, at, flow, len, &way);
	if (why != FITS)
		return come_up(why);

	if (flow->edit == EDIT_WRAP) {
		if (!wrap(ctx, flow, at->vlan, len, end - ip - len, is_v4))
			return come_up(WHY_NO_ROOM);
		return leave(ctx, &way, len);
	}
	if (flow->edit == EDIT_TUPLE) {
		if (is_v4)
			__builtin_memcpy(&v4->saddr, flow->addresses, sizeof(flow->addresses));
		else
			__builtin_memcpy(&v6->saddr, flow->addresses6, sizeof(flow->addresses6));
		set_ports(transport, protocol, checksum, flow);
	}
	if (is_v4) {
		v4->ttl--;
		v4->check = mended(v4->check, flow->l3);
	} else {
		v6->hop_limit--;
	}
	return leave(ctx, &way, len);
}

INLINE int carry_v4(struct xdp_md *ctx, struct arrival *at, struct iphdr *ip)
{
	void *end = (void *)(long)ctx->data_end;
	struct transport_ports *ports;
	struct flow_key key = {};
	struct flow *flow;
	__u8 protocol;
	__u32 len;

	/* A later fragment has no ports. */
	if ((void *)(ip + 1) > end || ip->version != 4 || ip->frag_off & NET16(IPV4_FRAGMENT_OFFSET))
		return COMES_UP;
	protocol = ip->protocol;
	ports = (void *)ip + ip->ihl * 4;
	if (!is_balanced(protocol) || (void *)(ports + 1) > end)
		return COMES_UP;
	key.source = ip->saddr;
	key.destination = ip->daddr;
	key.source_port = ports->source;
	key.destination_port = ports->destination;
	key.protocol = protocol;
	if (protocol == IPPROTO_TCP && is_syn(ports, end))
		return COMES_UP;
	flow = map_lookup(&flows, &key);
	if (!flow)
		return COMES_UP;

	len = HOST16(ip->tot_len);
	if (ip->ihl != 5)
		return come_up(WHY_OPTIONS);
	if (ip->frag_off & NET16(IPV4_MORE_FRAGMENTS))
		return come_up(WHY_FRAGMENT);
	if (len < sizeof(*ip) || (void *)ip + len > end || !is_right(ip))
		return come_up(WHY_HEADER);
	if (ip->ttl <= 1)
		return come_up(WHY_TTL);
	return forward(ctx, at, flow, ip, protocol, len, 1);
}

INLINE int carry_v6(struct xdp_md *ctx, struct arrival *at, struct ipv6hdr *ip)
{
	void *end = (void *)(long)ctx->data_end;
	struct transport_ports *ports = (void *)(ip + 1);
	struct flow_key6 key = {};
	enum why why = FITS;
	struct flow *flow;
	__u8 protocol;
	__u32 len;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return COMES_UP;
	protocol = ip->nexthdr;
	/* One extension header, to know whose packet it is; what has more of them comes up without being counted. */
	if (protocol == IPPROTO_HOPOPTS || protocol == IPPROTO_DSTOPTS || protocol == IPPROTO_FRAGMENT) {
		struct extension *extension = (void *)(ip + 1);

		if ((void *)(extension + 1) > end)
			return COMES_UP;
		why = WHY_OPTIONS;
		ports = (void *)extension + (extension->len + 1) * 8;
		if (protocol == IPPROTO_FRAGMENT) {
			if (extension->offset & NET16(IPV6_FRAGMENT_OFFSET))
				return COMES_UP;
			why = WHY_FRAGMENT;
			ports = (void *)(extension + 1);
		}
		protocol = extension->next;
	}
	if (!is_balanced(protocol) || (void *)(ports + 1) > end)
		return COMES_UP;
	__builtin_memcpy(key.addresses, &ip->saddr, sizeof(key.addresses));
	key.source_port = ports->source;
	key.destination_port = ports->destination;
	key.protocol = protocol;
	if (protocol == IPPROTO_TCP && is_syn(ports, end))
		return COMES_UP;
	flow = map_lookup(&flows6, &key);
	if (!flow)
		return COMES_UP;

	if (why != FITS)
		return come_up(why);
	len = sizeof(*ip) + HOST16(ip->payload_len);
	if ((void *)ip + len > end)
		return come_up(WHY_HEADER);
	if (ip->hop_limit <= 1)
		return come_up(WHY_TTL);
	return forward(ctx, at, flow, ip, protocol, len, 0);
}

/* Sends the frame on if it belongs to an offloaded flow and nothing speaks against it; COMES_UP otherwise. */
INLINE int carry(struct xdp_md *ctx, __u32 place)
{
	void *frame = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *network = frame + sizeof(struct ethhdr);
	struct arrival at = {.place = place};
	__be16 type;

	if (network > end)
		return COMES_UP;
#ifdef LONG_FRAMES
	/* Not every driver sends on what is in several buffers. */
	if (get_frame_len(ctx) != (__u64)(end - frame))
		return COMES_UP;
#endif
	type = ((struct ethhdr *)frame)->h_proto;
	if (type == NET16(ETH_P_8021Q)) {
		struct vlan_tag *tag = network;

		if ((void *)(tag + 1) > end)
			return COMES_UP;
		at.vlan = HOST16(tag->control) & 0xfff;
		at.is_tagged = 1;
		type = tag->type;
		network = tag + 1;
	}
	if (type == NET16(ETH_P_IP))
		return carry_v4(ctx, &at, network);
	if (type == NET16(ETH_P_IPV6))
		return carry_v6(ctx, &at, network);
	return COMES_UP;
}

#endif
