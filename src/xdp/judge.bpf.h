/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Whose a frame is by its addresses: the rules, asked one after the other. The head of steer.bpf.c has them all in one table. */
#ifndef XVS_JUDGE_H
#define XVS_JUDGE_H

#include "counters.bpf.h"
#include "extensions.bpf.h"
#include "rules.bpf.h"

#define ISAKMP_PORT 500

/* The network layer in hand: `end` bounds what may be read, `source` and `destination` have no port yet. */
struct packet {
	void *end;
	/* Aligned for networks, which are compared by 8 bytes. */
	struct key source __attribute__((aligned(8)));
	struct key destination __attribute__((aligned(8)));
	__u32 room; /* that the frame is to get */
};

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
INLINE __u32 ways_to(struct key *server, __be16 port, struct any_port *any)
{
	__u32 *of_port, *of_any = 0;

	server->port = port;
	of_port = map_lookup(&nat_servers, server);
	server->port = 0;
	if (any->servers)
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
	__u32 zero = 0, ways;
	struct any_port *any = map_lookup(&any_port, &zero);
	struct service *service;

	if (!any)
		return OUTCOME_PASS_NOT_OURS;

	/* Services before host addresses: the kernel has the VIP on an interface and it is ours all the same. */
	destination->protocol = protocol;
	destination->port = ports.destination;
	service = map_lookup(&services, destination);
	if (service) {
		packet->room = service->room;
		return OUTCOME_SERVICE;
	}
	destination->port = 0;
	service = any->services ? map_lookup(&services, destination) : 0;
	if (service) {
		packet->room = service->room;
		return OUTCOME_SERVICE_ANY_PORT;
	}

	source->protocol = protocol;
	ways = ways_to(source, ports.source, any);
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

#endif
