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
 */
#include "bpf.h"

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

/* src/xdp/steer has the same numbers; a test there compares them with this text. */
#define MAX_SERVICES 65536
#define MAX_NAT_SERVERS 65536
#define MAX_VIPS 16384
#define MAX_HOST_ADDRESSES 16384
#define MAX_LOCAL_ADDRESSES 16384
#define MAX_TUNNELS 65536
#define MAX_RANGES 64
#define MAX_PORTS 64
#define MAX_QUEUES 64

/* An update adds the new before it removes the old, so both have to fit side by side. */
#define OLD_AND_NEW(limit) (2 * (limit))

/* IPv6 extension headers looked through, and their bytes; real traffic has one or two. src/packet/ipv6.rs has the same. */
#define MAX_EXTENSIONS 6
#define MAX_EXTENSIONS_LEN 1024

/* Bytes of room a service may ask for, and the EtherType in front of it; src/packet/room.rs has the same. */
#define ROOM_MIN 16
#define ROOM_MAX 64
#define ROOM_MARK 0x88b5

/* Outcomes in the order of `Outcome` in src/xdp/steer/outcome.rs. Those before NO_SOCKET go to a socket. */
enum outcome {
	OUTCOME_SERVICE,
	OUTCOME_SERVICE_ANY_PORT,
	OUTCOME_SERVICE_RANGE,
	OUTCOME_NAT_RETURN,
	OUTCOME_FULL_NAT_RETURN,
	OUTCOME_FRAGMENT,
	OUTCOME_ICMP_ERROR,
	OUTCOME_NO_SOCKET,
	OUTCOME_PASS_OTHER_MAC,
	OUTCOME_PASS_NOT_OURS,
	OUTCOME_PASS_HOST,
	OUTCOME_PASS_NOT_IP,
	OUTCOME_PASS_TAGS,
	OUTCOME_PASS_MALFORMED,
	OUTCOME_OFFLOADED,
	OUTCOMES,
};

/*
 * An address, or an end of a connection when protocol and port are set too. IPv4 addresses fill the first
 * four bytes; `family` keeps them apart from IPv6 addresses that begin alike. No padding: maps compare bytes.
 */
struct key {
	__u8 address[16];
	__be16 port;   /* 0: any port */
	__u8 protocol; /* 0: the address alone */
	__u8 family;   /* 4 or 6 */
};

/* What a service asks of this program. */
struct service {
	__u32 room; /* in front of each frame, in bytes: 0, or ROOM_MIN to ROOM_MAX */
};

/* The addresses that agree with `address` in the bits of `mask`; IPv4 in the first four bytes of both. */
struct network {
	__u64 address[2];
	__u64 mask[2];
};

/* What no set of keys can say: packets of a protocol to some ports of a network, from a network. */
struct range {
	struct network destination;
	struct network source;
	__u16 first_port; /* of the destination, in host order, as the last one */
	__u16 last_port;
	__u8 protocol;
	__u8 family; /* 4 or 6, of both networks */
	__u16 unused; /* 0 */
};

/* A packet in any range of the first `count` places is ours; an empty place has protocol 0, as no packet here. */
struct ranges {
	struct range range[MAX_RANGES];
	__u32 count;
	__u32 unused; /* 0 */
};

/* An interface that the program is attached to. */
struct port {
	__u32 base;   /* the place of its queue 0 in `sockets` */
	__u16 mac[3]; /* as in a frame, where it is aligned to 2 bytes too */
	__u16 unused; /* 0 */
};

/*
 * Elements are allocated as they are added, by system calls only; without preallocation a removed element
 * is not reused while a packet on another CPU may still be reading it.
 */
#define KEY_MAP(name, value_type, limit)                            \
	struct {                                                    \
		MAP_NUMBER(type, BPF_MAP_TYPE_HASH);                \
		MAP_NUMBER(map_flags, BPF_F_NO_PREALLOC);           \
		MAP_NUMBER(max_entries, OLD_AND_NEW(limit));        \
		MAP_TYPE(key, struct key);                          \
		MAP_TYPE(value, value_type);                        \
	} name SEC(".maps")

KEY_MAP(services, struct service, MAX_SERVICES);
/* How packets reach a server, in `nat_servers` and `nat_addresses`. One may be reached in both ways. */
#define BY_NAT 1
#define BY_FULL_NAT 2

KEY_MAP(nat_servers, __u32, MAX_NAT_SERVERS);
KEY_MAP(nat_addresses, __u32, MAX_NAT_SERVERS); /* of nat_servers, without protocol and port */
KEY_MAP(vips, __u32, MAX_VIPS);
KEY_MAP(host_addresses, __u32, MAX_HOST_ADDRESSES);
/* What FULLNAT sends from: first port << 16 | last port. The host may have the address too, and use its other ports. */
KEY_MAP(local_addresses, __u32, MAX_LOCAL_ADDRESSES);
/* Servers with the protocol of the outer packets to them, and for UDP the port. */
KEY_MAP(tunnels, __u32, MAX_TUNNELS);

/*
 * The ranges, twice, and which of the two counts. User space writes all ranges to the one that does not, and
 * then turns over by one write that changes a single bit: a packet is judged by all the old ranges or by all the
 * new ones. One that is being judged during the turn goes on with the old ranges, which are not overwritten before
 * the next change. Should it take that long (an interrupt, a hypervisor that stops the CPU), a range that stays is
 * not missed even then: it keeps its place, and its bytes are overwritten by the same bytes.
 */
struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 2);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct ranges);
} ranges SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u32); /* 0 or 1 */
} ranges_in_use SEC(".maps");

/* By interface index: one program and one map serve all interfaces. Not preallocated for the same reason. */
struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_HASH);
	MAP_NUMBER(map_flags, BPF_F_NO_PREALLOC);
	MAP_NUMBER(max_entries, MAX_PORTS);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct port);
} ports SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_XSKMAP);
	MAP_NUMBER(max_entries, MAX_PORTS * MAX_QUEUES);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u32);
} sockets SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_NUMBER(max_entries, OUTCOMES);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
} counters SEC(".maps");

/* Headers for which the kernel's user-space headers have no struct, or only one that needs a libc. */
struct vlan_tag {
	__be16 control;
	__be16 type; /* of what follows the tag */
};

#define ISAKMP_PORT 500

struct transport_ports { /* TCP, UDP and SCTP begin alike */
	__be16 source;
	__be16 destination;
};

struct icmp { /* of both families */
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 rest;
};

struct extension {
	__u8 next;
	__u8 len; /* in 8 bytes, the first 8 not counted; reserved in a fragment header */
	union {
		struct {
			__u8 type;
			__u8 segments_left;
		}; /* routing header only */
		__be16 offset; /* fragment header only: in 8 bytes << 3, and whether more follow */
	};
	__u32 rest;
};

#define IPV6_MORE_FRAGMENTS 1
#define IPV6_FRAGMENT_OFFSET 0xfff8

#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff
#define IPV4_DONT_FRAGMENT 0x4000

/* What room begins with. */
struct room {
	__u8 macs[12];
	__be16 mark;
	__be16 len;
};

/* The network layer in hand: `end` bounds what may be read, `source` and `destination` have no port yet. */
struct packet {
	void *end;
	/* Aligned for networks, which are compared by 8 bytes. */
	struct key source __attribute__((aligned(8)));
	struct key destination __attribute__((aligned(8)));
	__u32 room; /* that the frame is to get */
};

INLINE int is_balanced(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

/*
 * They have no ports: IPVS looks for the connection of the ISAKMP between the same two addresses. IPv6's AH is an
 * extension header like others, as it is to IPVS.
 */
INLINE int is_ipsec(struct packet *packet, __u8 protocol)
{
	return protocol == IPPROTO_ESP || (protocol == IPPROTO_AH && packet->destination.family == 4);
}

INLINE int is_vip(struct packet *packet)
{
	return map_lookup(&vips, &packet->destination) != 0;
}

/*
 * A fragment after the first has no ports, so all fragments of a datagram go the same way: by address. Only
 * those of protocols that can be a service: a large ping to the VIP stays the kernel's. By address alone a NAT
 * server's replies cannot be told from its other traffic: user space routes on what is nobody's. What is behind
 * other extension headers of IPv6 only the first fragment tells.
 */
INLINE enum outcome judge_fragment(struct packet *packet, __u8 protocol)
{
	__u32 *ways;

	if (!is_balanced(protocol) &&
	    (packet->destination.family == 4 ||
	     (protocol != IPPROTO_DSTOPTS && protocol != IPPROTO_AH && protocol != IPPROTO_ESP)))
		return OUTCOME_PASS_NOT_OURS;
	if (is_vip(packet))
		return OUTCOME_FRAGMENT;
	ways = map_lookup(&nat_addresses, &packet->source);
	if (!ways)
		return OUTCOME_PASS_NOT_OURS;
	if (*ways & BY_FULL_NAT && map_lookup(&local_addresses, &packet->destination))
		return OUTCOME_FRAGMENT;
	if (!(*ways & BY_NAT))
		return OUTCOME_PASS_NOT_OURS;
	return map_lookup(&host_addresses, &packet->destination) ? OUTCOME_PASS_HOST : OUTCOME_FRAGMENT;
}

/* What a walk along extension headers came to. */
enum found {
	FOUND_TRANSPORT,
	FOUND_FRAGMENT, /* `protocol` is what its datagram goes on with */
	FOUND_NEITHER,
	FOUND_BAD,
};

/* Where a walk is: `left` bytes of the packet, `at` bytes behind its beginning, and they are of `protocol`. */
struct walk {
	__u32 at;
	__u32 left;
	__u8 protocol;
};

/*
 * Makes the verifier forget what it knows of a number, by the detour of one of which it knows nothing: the ways through
 * a loop look alike then, and what is behind it is verified once, not once for each of them.
 */
#define FORGET(number, unknown)                         \
	do {                                            \
		(number) += (unknown);                  \
		__asm__ volatile("" : "+r"(number));    \
		(number) -= (unknown);                  \
	} while (0)

/*
 * Along the extension headers of a packet, or of a quoted one, which has `len` bytes. A fragment header on a whole packet
 * is but another extension header (RFC 6946); of a quoted datagram the first fragment has the ports, which is all that
 * is asked for.
 */
INLINE enum found walk(struct walk *to, struct ipv6hdr *ip, __u32 len, void *end, int is_quoted)
{
	enum found found = FOUND_BAD;
	__u32 at = sizeof(*ip), left = len - sizeof(*ip), unknown = *(__u32 *)ip;
	__u8 protocol = ip->nexthdr;

	for (int seen = 0; seen <= MAX_EXTENSIONS; seen++) {
		struct extension *extension;
		__u32 extension_len;

		FORGET(at, unknown);
		FORGET(left, unknown);
		if (at > sizeof(*ip) + MAX_EXTENSIONS_LEN)
			break;
		if (protocol != IPPROTO_HOPOPTS && protocol != IPPROTO_ROUTING && protocol != IPPROTO_DSTOPTS &&
		    protocol != IPPROTO_FRAGMENT && protocol != IPPROTO_AH) {
			found = FOUND_TRANSPORT;
			break;
		}

		extension = (void *)ip + at;
		if (left < sizeof(*extension) || (void *)(extension + 1) > end)
			break;
		/* AH counts in 4 bytes, its first 8 not counted either (RFC 4302, 2.2). */
		extension_len = protocol == IPPROTO_AH ? (extension->len + 2) * 4 : (extension->len + 1) * 8;
		if (protocol == IPPROTO_FRAGMENT) {
			__u16 part = is_quoted ? IPV6_FRAGMENT_OFFSET : IPV6_FRAGMENT_OFFSET | IPV6_MORE_FRAGMENTS;

			extension_len = sizeof(*extension);
			if (extension->offset & NET16(part)) {
				protocol = extension->next;
				found = FOUND_FRAGMENT;
				break;
			}
		}
		/* Source-routed and not there yet: this destination is a stop on the way, and routing is the kernel's. */
		if (protocol == IPPROTO_ROUTING && extension->segments_left) {
			found = FOUND_NEITHER;
			break;
		}
		if (left < extension_len)
			break;
		protocol = extension->next;
		at += extension_len;
		left -= extension_len;
	}

	to->at = at;
	to->left = left;
	to->protocol = protocol;
	return found;
}

INLINE int is_icmp_error(__u8 family, __u8 type)
{
	/* IPv4: destination unreachable, source quench, time exceeded: those that IPVS relays. */
	if (family == 4)
		return type == 3 || type == 4 || type == 11;
	/* IPv6: destination unreachable, packet too big, time exceeded, parameter problem. */
	return type >= 1 && type <= 4;
}

INLINE int is_within(struct key *key, struct network *network)
{
	__u64 address[2];

	__builtin_memcpy(address, __builtin_assume_aligned(key->address, 8), sizeof(address));
	return !(((address[0] ^ network->address[0]) & network->mask[0]) |
		 ((address[1] ^ network->address[1]) & network->mask[1]));
}

/* One after the other, but only for what nothing else claims, which on a director is little. */
INLINE int is_in_range(struct packet *packet, __u8 protocol, __u16 port)
{
	__u32 place = 0, *in_use = map_lookup(&ranges_in_use, &place), count;
	struct ranges *all = in_use ? map_lookup(&ranges, in_use) : 0;

	if (!all)
		return 0;
	count = all->count;
	for (__u32 i = 0; i < MAX_RANGES && i < count; i++) {
		struct range *range = &all->range[i];

		if (range->protocol == protocol && range->family == packet->destination.family &&
		    port >= range->first_port && port <= range->last_port &&
		    is_within(&packet->destination, &range->destination) && is_within(&packet->source, &range->source))
			return 1;
	}
	return 0;
}

/* How packets reach the server that this is, with its port or with any. */
INLINE __u32 ways_to(struct key *server, __be16 port)
{
	__u32 *of_port, *of_any;

	server->port = port;
	of_port = map_lookup(&nat_servers, server);
	server->port = 0;
	of_any = map_lookup(&nat_servers, server);
	return (of_port ? *of_port : 0) | (of_any ? *of_any : 0);
}

/* Whether FULLNAT sends from this port of the address, which has no port yet. */
INLINE int is_local(struct key *address, __u16 port)
{
	__u32 *ports = map_lookup(&local_addresses, address);

	return ports && port >= *ports >> 16 && port <= (*ports & 0xffff);
}

INLINE enum outcome judge_ports(struct packet *packet, __u8 protocol, struct transport_ports ports)
{
	struct key *source = &packet->source, *destination = &packet->destination;
	struct service *service;
	__u32 ways;

	/* Services before host addresses: the kernel has the VIP on an interface and it is ours all the same. */
	destination->protocol = protocol;
	destination->port = ports.destination;
	service = map_lookup(&services, destination);
	if (service) {
		packet->room = service->room;
		return OUTCOME_SERVICE;
	}
	destination->port = 0;
	service = map_lookup(&services, destination);
	if (service) {
		packet->room = service->room;
		return OUTCOME_SERVICE_ANY_PORT;
	}

	source->protocol = protocol;
	ways = ways_to(source, ports.source);
	destination->protocol = 0;
	/* Before host addresses: the host may have the local address too. */
	if (ways & BY_FULL_NAT && is_local(destination, HOST16(ports.destination)))
		return OUTCOME_FULL_NAT_RETURN;
	if (ways & BY_NAT && !map_lookup(&host_addresses, destination))
		return OUTCOME_NAT_RETURN;

	/* To this host too, if a range says so: a server may be a client, as it may be one of a service. */
	if (is_in_range(packet, protocol, HOST16(ports.destination)))
		return OUTCOME_SERVICE_RANGE;
	return ways & BY_NAT ? OUTCOME_PASS_HOST : OUTCOME_PASS_NOT_OURS;
}

/* Whether a header's source of this length is where the packet in hand goes to. */
INLINE int was_sent_by_its_destination(struct packet *packet, const void *source, __u32 len)
{
	__u64 it[2] = {}, destination[2];

	__builtin_memcpy(it, source, len);
	__builtin_memcpy(destination, packet->destination.address, sizeof(destination));
	return it[0] == destination[0] && it[1] == destination[1];
}

/* Whether packets of this protocol and to this port, to where the packet in hand would be from, are those of a tunnel. */
INLINE int is_tunnelled(struct packet *packet, __u8 protocol, __be16 port)
{
	packet->source.protocol = protocol;
	packet->source.port = port;
	return map_lookup(&tunnels, &packet->source) != 0;
}

/*
 * An ICMP error quotes the packet that it is about, goes to who sent that, and is ours if the answer to it would be:
 * what a client or a router says of a service's packet, what a server or a router says of one to a NAT server. What
 * anybody says of the host's own packets stays the host's, from whichever address it sent them; but of those that it sent
 * through a tunnel to a server a client hears.
 */
INLINE enum outcome judge_icmp_error(struct packet *packet, void *quote, __u32 len)
{
	struct transport_ports *quoted, answer;
	enum outcome outcome;
	__u32 header_len;
	__u8 protocol;

	if (packet->destination.family == 4) {
		struct iphdr *ip = quote;

		if (len < sizeof(*ip) || (void *)(ip + 1) > packet->end)
			return OUTCOME_PASS_MALFORMED;
		header_len = ip->ihl * 4;
		if (ip->version != 4 || header_len < sizeof(*ip) || header_len > len)
			return OUTCOME_PASS_MALFORMED;
		/* A later fragment has no ports. */
		if (ip->frag_off & NET16(IPV4_FRAGMENT_OFFSET) ||
		    !was_sent_by_its_destination(packet, &ip->saddr, sizeof(ip->saddr)))
			return OUTCOME_PASS_NOT_OURS;
		__builtin_memcpy(packet->source.address, &ip->daddr, sizeof(ip->daddr));
		protocol = ip->protocol;
		quoted = quote + header_len;
		len -= header_len;
	} else {
		struct ipv6hdr *ip = quote;
		struct walk at = {};

		if (len < sizeof(*ip) || (void *)(ip + 1) > packet->end)
			return OUTCOME_PASS_MALFORMED;
		if (ip->version != 6)
			return OUTCOME_PASS_MALFORMED;
		if (!was_sent_by_its_destination(packet, &ip->saddr, sizeof(ip->saddr)))
			return OUTCOME_PASS_NOT_OURS;
		__builtin_memcpy(packet->source.address, &ip->daddr, sizeof(ip->daddr));
		switch (walk(&at, ip, len, packet->end, 1)) {
		case FOUND_TRANSPORT:
			break;
		case FOUND_BAD:
			return OUTCOME_PASS_MALFORMED;
		default:
			return OUTCOME_PASS_NOT_OURS;
		}
		protocol = at.protocol;
		quoted = quote + at.at;
		len = at.left;
	}
	if (!is_balanced(protocol))
		return is_tunnelled(packet, protocol, 0) ? OUTCOME_ICMP_ERROR : OUTCOME_PASS_NOT_OURS;
	if (len < sizeof(*quoted) || (void *)(quoted + 1) > packet->end)
		return OUTCOME_PASS_MALFORMED;
	answer.source = quoted->destination;
	answer.destination = quoted->source;
	if (protocol == IPPROTO_UDP && is_tunnelled(packet, protocol, answer.source))
		return OUTCOME_ICMP_ERROR;
	outcome = judge_ports(packet, protocol, answer);
	packet->room = 0; /* an error is moved, if it goes through a tunnel at all */
	return outcome < OUTCOME_NO_SOCKET ? OUTCOME_ICMP_ERROR : OUTCOME_PASS_NOT_OURS;
}

/* `len` is what the network header says is left from `transport` on; padding behind it is not looked at. */
INLINE enum outcome judge_transport(struct packet *packet, __u8 protocol, void *transport, __u32 len)
{
	if (is_balanced(protocol) || is_ipsec(packet, protocol)) {
		struct transport_ports *here = transport, ports = {NET16(ISAKMP_PORT), NET16(ISAKMP_PORT)};

		if (is_ipsec(packet, protocol))
			protocol = IPPROTO_UDP;
		else if (len < sizeof(*here) || (void *)(here + 1) > packet->end)
			return OUTCOME_PASS_MALFORMED;
		else
			ports = *here;
		return judge_ports(packet, protocol, ports);
	}
	if (protocol == (packet->destination.family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		struct icmp *icmp = transport;

		if (len < sizeof(*icmp) || (void *)(icmp + 1) > packet->end)
			return OUTCOME_PASS_MALFORMED;
		if (!is_icmp_error(packet->destination.family, icmp->type))
			return OUTCOME_PASS_NOT_OURS;
		return judge_icmp_error(packet, icmp + 1, len - sizeof(*icmp));
	}
	return OUTCOME_PASS_NOT_OURS;
}

/*
 * Whether the packet of `len` bytes at `network`, which does not end in the frame's first buffer, ends in the others: there
 * are such for the program for long frames only. All headers that are looked at have to be in the first one.
 */
INLINE int ends_behind(struct xdp_md *ctx, void *network, __u32 len)
{
#ifdef LONG_FRAMES
	return network - (void *)(long)ctx->data + len <= get_frame_len(ctx);
#else
	return 0;
#endif
}

INLINE enum outcome judge_ipv4(struct xdp_md *ctx, void *network, void *end, __u32 *room)
{
	struct packet packet = {.end = end};
	enum outcome outcome;
	struct iphdr *ip = network;
	__u32 header_len, total_len;

	if ((void *)(ip + 1) > end)
		return OUTCOME_PASS_MALFORMED;
	header_len = ip->ihl * 4; /* options included */
	total_len = HOST16(ip->tot_len);
	if (ip->version != 4 || header_len < sizeof(*ip) || total_len < header_len ||
	    (network + total_len > end && !ends_behind(ctx, network, total_len)))
		return OUTCOME_PASS_MALFORMED;

	packet.source.family = packet.destination.family = 4;
	__builtin_memcpy(packet.source.address, &ip->saddr, sizeof(ip->saddr));
	__builtin_memcpy(packet.destination.address, &ip->daddr, sizeof(ip->daddr));
	if (ip->frag_off & NET16(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET) &&
	    !is_ipsec(&packet, ip->protocol))
		return judge_fragment(&packet, ip->protocol);
	outcome = judge_transport(&packet, ip->protocol, network + header_len, total_len - header_len);
	*room = packet.room;
	return outcome;
}

INLINE enum outcome judge_ipv6(struct xdp_md *ctx, void *network, void *end, __u32 *room)
{
	struct packet packet = {.end = end};
	enum outcome outcome;
	struct ipv6hdr *ip = network;
	struct walk at = {};
	__u32 len;

	if ((void *)(ip + 1) > end)
		return OUTCOME_PASS_MALFORMED;
	len = sizeof(*ip) + HOST16(ip->payload_len);
	if (ip->version != 6 || (network + len > end && !ends_behind(ctx, network, len)))
		return OUTCOME_PASS_MALFORMED;

	packet.source.family = packet.destination.family = 6;
	__builtin_memcpy(packet.source.address, &ip->saddr, sizeof(ip->saddr));
	__builtin_memcpy(packet.destination.address, &ip->daddr, sizeof(ip->daddr));
	switch (walk(&at, ip, len, end, 0)) {
	case FOUND_TRANSPORT:
		outcome = judge_transport(&packet, at.protocol, network + at.at, at.left);
		*room = packet.room;
		return outcome;
	case FOUND_FRAGMENT:
		return judge_fragment(&packet, at.protocol);
	case FOUND_NEITHER:
		return OUTCOME_PASS_NOT_OURS;
	default:
		return OUTCOME_PASS_MALFORMED;
	}
}

INLINE enum outcome judge(struct xdp_md *ctx, void *frame, void *end, __u32 *room)
{
	struct ethhdr *ethernet = frame;
	void *network = ethernet + 1;
	__be16 type;

	if (network > end)
		return OUTCOME_PASS_MALFORMED;
	type = ethernet->h_proto;
	if (type == NET16(ETH_P_8021Q)) {
		struct vlan_tag *tag = network;

		if ((void *)(tag + 1) > end)
			return OUTCOME_PASS_MALFORMED;
		type = tag->type;
		network = tag + 1;
	}
	if (type == NET16(ETH_P_IP))
		return judge_ipv4(ctx, network, end, room);
	if (type == NET16(ETH_P_IPV6))
		return judge_ipv6(ctx, network, end, room);
	/* A provider's tag, or a second one: what is behind is another network, whose addresses may be the same. */
	return type == NET16(ETH_P_8021AD) || type == NET16(ETH_P_8021Q) ? OUTCOME_PASS_TAGS : OUTCOME_PASS_NOT_IP;
}

/*
 * Whether the frame is to the interface itself. That leaves out groups as well: a router forwards nothing that
 * came as a link broadcast or multicast (RFC 1812, 5.3.4).
 */
INLINE int is_to(struct port *port, void *frame)
{
	__u16 *destination = frame;

	return destination[0] == port->mac[0] && destination[1] == port->mac[1] && destination[2] == port->mac[2];
}

/*
 * Sends what is ours by its addresses on its way to the socket of its interface and queue; its outcome comes
 * back, another one if it stays here.
 */
INLINE enum outcome to_socket(struct xdp_md *ctx, void *frame, enum outcome outcome)
{
	__u32 interface = ctx->ingress_ifindex;
	__u32 queue = ctx->rx_queue_index;
	struct port *port = map_lookup(&ports, &interface);

	if (!port)
		return OUTCOME_NO_SOCKET;
	if (!is_to(port, frame))
		return OUTCOME_PASS_OTHER_MAC;
	/* Without the bound a high queue would land in the places of the next interface. */
	if (queue >= MAX_QUEUES || redirect_map(&sockets, port->base + queue, XDP_PASS) != XDP_REDIRECT)
		return OUTCOME_NO_SOCKET;
	return outcome;
}

/* Makes room in front of the frame. Where the driver has none, user space moves the packet. */
INLINE void make_room(struct xdp_md *ctx, __u32 len)
{
	struct room *room = (void *)(long)ctx->data;
	__u8 macs[12];

	if (len < ROOM_MIN || len > ROOM_MAX || (void *)(room + 1) > (void *)(long)ctx->data_end)
		return;
	__builtin_memcpy(macs, room->macs, sizeof(macs));
	if (adjust_head(ctx, -(int)len))
		return;
	room = (void *)(long)ctx->data;
	if ((void *)(room + 1) > (void *)(long)ctx->data_end)
		return;
	__builtin_memcpy(room->macs, macs, sizeof(macs));
	room->mark = NET16(ROOM_MARK);
	room->len = NET16((__u16)len);
}

INLINE void count(__u32 outcome)
{
	__u64 *counter = map_lookup(&counters, &outcome);

	/* One CPU, one cell, and XDP does not nest: no atomic is needed. */
	if (counter)
		*counter += 1;
}

#include "offload.bpf.h"

SEC(XDP)
int steer(struct xdp_md *ctx)
{
	__u32 room = 0;
	enum outcome outcome;
	void *frame;

	if (offloads) {
		int action = carry(ctx);

		if (action != COMES_UP) {
			count(OUTCOME_OFFLOADED);
			return action;
		}
	}
	frame = (void *)(long)ctx->data;
	outcome = judge(ctx, frame, (void *)(long)ctx->data_end, &room);
	if (outcome < OUTCOME_NO_SOCKET)
		outcome = to_socket(ctx, frame, outcome);
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
