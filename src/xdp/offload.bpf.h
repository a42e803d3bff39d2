/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Offloaded flows: packets of established connections, readdressed and sent on without coming up to user space.
 *
 *   flows     (protocol, addresses, ports of a packet) -> what to do to it, and the place of its tally; `flows6` has those
 *             of IPv6
 *   tallies   place -> packets, bytes, last seen; and whether the flow still holds. User space has it mapped into its
 *             memory: one store there and the flow is off, without a system call
 *   current   the numbers of the services and of the routes by which flows may go now; one made by others comes up
 *   hops      next hop -> number of its station; 0: nobody knows the MAC address
 *   stations  MAC addresses, interface, MTU. Never written while a hop leads there: a change is a new station, and one
 *             store into hops turns every flow over at once
 *   exits     interfaces, to be redirected to
 *   came_up   packets that are of a flow and came up all the same, by the reason
 *
 * User space decides what is in them, and only for what it would do itself to each packet, byte for byte. Whatever may
 * change a connection or needs an answer comes up: SYN, FIN, RST, TCP without ACK, SCTP that does not begin with data or
 * heartbeats, fragments, IP options and extension headers, a TTL that ends, what is too long, another VLAN, wrong headers.
 * So does every packet if anything is missing: nothing is lost with a flow but time.
 */
#ifndef XVS_OFFLOAD_BPF_H
#define XVS_OFFLOAD_BPF_H

#include <linux/tcp.h>
#include <linux/udp.h>

/* src/net has the same number of next hops, src/xdp/steer/offload the others. */
#define MAX_HOPS 65536
/* Twice as many, so that a change finds one that no packet in flight may still read. */
#define MAX_STATIONS (2 * MAX_HOPS)

/* Not the XDP program's business: no action has this number. */
#define COMES_UP (-1)

/* Whether there may be flows at all: set before the program is loaded, which then has no such code. */
const volatile __u32 offloads = 0;

struct flow_key { /* IPv4 */
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 unused[3]; /* 0 */
};

struct flow_key6 {
	__u8 addresses[32]; /* source and destination, as in a packet */
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	__u8 unused[3]; /* 0 */
};

struct flow {
	__u32 place;  /* of its tally */
	__u32 serial; /* what the tally says too, while the flow holds */
	__u32 hop;
	__u32 edit; /* what the following is for */
	__be16 source_port;
	__be16 destination_port;
	__u16 l3; /* differences of the checksums (RFC 1624), in host order */
	__u16 l4; /* EDIT_WRAP: enum wrap, COPIES_DF, OUTER_V6 */
	union { /* source and destination, as in a packet */
		__be32 addresses[2];
		__u64 addresses6[4];
	};
};

enum edit {
	EDIT_NONE,
	EDIT_TUPLE, /* replaces what the packet has */
	EDIT_WRAP,  /* is of the packet around it, to which it becomes the payload; ports with WRAP_GUE only */
};

enum wrap {
	WRAP_IPIP,
	WRAP_GRE,
	WRAP_GUE,
};

#define COPIES_DF 0x100
#define OUTER_V6 0x200
#define WRAP_KIND 0xff

/* The least that a tunnel may leave of an MTU, by the version of the outer packet (__ip_vs_get_out_rt). */
#define LEAST_MTU 68
#define LEAST_MTU_V6 1280

#define GRE_LEN 4
#define GUE_LEN 4
/* No longer than the shortest packet that is wrapped. */
#define LONGEST_SHIM (sizeof(struct udphdr) + GUE_LEN)

struct tally {
	__u32 serial;
	__u32 services;
	__u32 routes;
	__u32 unused;
	__u64 packets;
	__u64 bytes; /* of IP packets */
	__u64 seen_ns;
	__u64 unused_too[3]; /* a cache line each */
};

struct current {
	__u32 services;
	__u32 routes;
};

struct station {
	__u8 macs[12]; /* as a frame begins */
	__u32 exit;
	__u32 interface;
	__u16 mtu;
	__u16 vlan; /* 0: none */
};

/* SCTP as far as it is looked at here: chunks that change no association. */
struct sctp {
	__be16 source;
	__be16 destination;
	__be32 tag;
	__be32 checksum;
	__u8 chunk; /* type of the first one; its flags and length follow */
	__u8 unused[3];
};

#define SCTP_DATA 0
#define SCTP_SACK 3
#define SCTP_HEARTBEAT 4
#define SCTP_HEARTBEAT_ACK 5

/* Why a packet of a flow comes up, in the order of `Why` in src/xdp/steer/offload/came_up.rs. */
enum why {
	WHY_ENDED,    /* user space has taken the flow back */
	WHY_CHANGED,  /* services or routes are not those that the flow was made by */
	WHY_STATE,    /* TCP flags or an SCTP chunk that may change the connection's state */
	WHY_FRAGMENT, /* the first one: others cannot be told to be of a flow */
	WHY_OPTIONS,
	WHY_TTL,
	WHY_TOO_LONG,
	WHY_VLAN,
	WHY_HEADER,    /* wrong: lengths, checksum of the IP header */
	WHY_OTHER_MAC, /* not sent to the interface */
	WHY_NO_HOP,    /* its MAC address is not known, or its interface is not one to leave by */
	WHY_NO_EXIT,   /* the interface does not take it */
	WHY_NO_ROOM,   /* in front of the frame for the tunnel's headers */
	WHYS,
	FITS = WHYS, /* it does not come up */
};

/* Not preallocated for the reason that KEY_MAP has. User space sets the sizes of these three. */
#define FLOW_MAP(name, key_type)                             \
	struct {                                             \
		MAP_NUMBER(type, BPF_MAP_TYPE_HASH);         \
		MAP_NUMBER(map_flags, BPF_F_NO_PREALLOC);    \
		MAP_NUMBER(max_entries, 1);                  \
		MAP_TYPE(key, key_type);                     \
		MAP_TYPE(value, struct flow);                \
	} name SEC(".maps")

FLOW_MAP(flows, struct flow_key);
FLOW_MAP(flows6, struct flow_key6);

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(map_flags, BPF_F_MMAPABLE);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct tally);
} tallies SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct current);
} current SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u32);
} hops SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct station);
} stations SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_DEVMAP);
	MAP_NUMBER(max_entries, MAX_PORTS);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u32);
} exits SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_NUMBER(max_entries, WHYS);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
} came_up SEC(".maps");

/* The checksum after an edit that makes this difference: HC' = ~(~HC + ~m + m'), equation 3 of RFC 1624. */
INLINE __sum16 mended(__sum16 checksum, __u16 difference)
{
	__u32 sum = (__u16)~HOST16(checksum) + (__u32)difference;

	return NET16((__u16)~((sum & 0xffff) + (sum >> 16)));
}

/* Whether the checksum of a header without options is right: its words, the checksum included, are all ones then. */
INLINE int is_right(struct iphdr *ip)
{
	__u16 *words = (void *)ip;
	__u32 sum = 0;

#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

INLINE __u32 overhead(struct flow *flow)
{
	__u32 kind = flow->l4 & WRAP_KIND, len;

	if (flow->edit != EDIT_WRAP)
		return 0;
	len = flow->l4 & OUTER_V6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr);
	if (kind == WRAP_GUE)
		return len + sizeof(struct udphdr) + GUE_LEN;
	return kind == WRAP_GRE ? len + GRE_LEN : len;
}

/* What an outer header takes over from the packet in it, and what that is called there. */
struct inner {
	__u32 len;
	__be16 type;
	__be16 dont_fragment; /* as in an IPv4 header */
	__u8 protocol;
	__u8 class;
	__u8 ttl;
};

/* A congestion that the packet was told is told by it alone (RFC 3168, 9.1.1). */
INLINE __u8 outer_class(__u8 class)
{
	return (class & 3) == 3 ? class & ~1 : class;
}

/* What is between the two IP headers. */
INLINE void write_shim(__u16 *shim, struct flow *flow, struct inner *inner)
{
	__u32 kind = flow->l4 & WRAP_KIND;

	if (kind == WRAP_GUE) {
		shim[0] = flow->source_port;
		shim[1] = flow->destination_port;
		shim[2] = NET16((__u16)(inner->len + sizeof(struct udphdr) + GUE_LEN));
		shim[3] = 0;
		shim[4] = NET16(inner->protocol);
		shim[5] = 0;
	} else if (kind == WRAP_GRE) {
		shim[0] = 0;
		shim[1] = inner->type;
	}
}

INLINE __u8 carrier(struct flow *flow, struct inner *inner)
{
	__u32 kind = flow->l4 & WRAP_KIND;

	if (kind == WRAP_GUE)
		return IPPROTO_UDP;
	return kind == WRAP_GRE ? IPPROTO_GRE : inner->protocol;
}

INLINE void write_outer_v4(struct iphdr *outer, struct flow *flow, struct inner *inner)
{
	__u16 *words = (void *)outer;
	__u32 sum = 0;

	outer->version = 4;
	outer->ihl = 5;
	outer->tos = inner->class;
	outer->tot_len = NET16((__u16)(inner->len + overhead(flow)));
	outer->frag_off = flow->l4 & COPIES_DF ? inner->dont_fragment : 0;
	/* One that is never fragmented needs none (RFC 6864, 4.1). */
	outer->id = outer->frag_off ? 0 : (__u16)get_prandom_u32();
	outer->ttl = inner->ttl;
	outer->protocol = carrier(flow, inner);
	outer->check = 0;
	outer->saddr = flow->addresses[0];
	outer->daddr = flow->addresses[1];
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	outer->check = (__u16)~(sum + (sum >> 16));
}

INLINE void write_outer_v6(struct ipv6hdr *outer, struct flow *flow, struct inner *inner)
{
	__u8 *first = (void *)outer;

	first[0] = 0x60 | inner->class >> 4;
	first[1] = inner->class << 4;
	first[2] = first[3] = 0;
	outer->payload_len = NET16((__u16)(inner->len + overhead(flow) - sizeof(*outer)));
	outer->nexthdr = carrier(flow, inner);
	outer->hop_limit = inner->ttl;
	__builtin_memcpy(&outer->saddr, flow->addresses6, sizeof(flow->addresses6));
}

/*
 * Wraps the packet of `len` bytes, behind which is `padding`, as encap.rs does; with a tag if there is a VLAN. The
 * pointers into the frame are void then. False, and nothing has changed, if the driver has no room for it.
 */
INLINE int wrap(struct xdp_md *ctx, struct flow *flow, __u16 vlan, __u32 len, __u32 padding, int is_v4)
{
	__u32 more = overhead(flow), is_outer_v6 = flow->l4 & OUTER_V6;
	__be16 type = is_outer_v6 ? NET16(ETH_P_IPV6) : NET16(ETH_P_IP);
	struct inner inner = {.len = len};
	void *frame, *end, *outer, *packet;
	struct vlan_tag *tag;

	if (adjust_head(ctx, -(int)more))
		return 0;
	if (padding)
		adjust_tail(ctx, -(int)padding);
	frame = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (!vlan) {
		outer = frame + sizeof(struct ethhdr);
		if (outer > end)
			return 1;
		((struct ethhdr *)frame)->h_proto = type;
	} else {
		tag = frame + sizeof(struct ethhdr);
		outer = tag + 1;
		if (outer > end)
			return 1;
		((struct ethhdr *)frame)->h_proto = NET16(ETH_P_8021Q);
		tag->control = NET16(vlan);
		tag->type = type;
	}
	packet = outer + more;
	if (more > sizeof(struct ipv6hdr) + LONGEST_SHIM)
		return 1;

	if (is_v4) {
		struct iphdr *ip = packet;

		if ((void *)(ip + 1) > end)
			return 1;
		ip->ttl--;
		ip->check = mended(ip->check, flow->l3);
		inner.type = NET16(ETH_P_IP);
		inner.dont_fragment = ip->frag_off & NET16(IPV4_DONT_FRAGMENT);
		inner.protocol = IPPROTO_IPIP;
		inner.class = outer_class(ip->tos);
		inner.ttl = ip->ttl;
	} else {
		struct ipv6hdr *ip = packet;
		__u8 *first = packet;

		if ((void *)(ip + 1) > end)
			return 1;
		ip->hop_limit--;
		inner.type = NET16(ETH_P_IPV6);
		inner.protocol = IPPROTO_IPV6;
		inner.class = outer_class((__u8)(first[0] << 4 | first[1] >> 4));
		inner.ttl = ip->hop_limit;
	}
	if (is_outer_v6) {
		if (outer + sizeof(struct ipv6hdr) + LONGEST_SHIM > end)
			return 1;
		write_outer_v6(outer, flow, &inner);
		write_shim(outer + sizeof(struct ipv6hdr), flow, &inner);
	} else {
		if (outer + sizeof(struct iphdr) + LONGEST_SHIM > end)
			return 1;
		write_outer_v4(outer, flow, &inner);
		write_shim(outer + sizeof(struct iphdr), flow, &inner);
	}
	return 1;
}

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

/* The way of a packet. */
struct way {
	struct tally *tally;
	struct station *station;
};

/* Whether the packet of `len` bytes may go, and which way. */
INLINE enum why find_way(struct xdp_md *ctx, struct flow *flow, __u16 vlan, int is_tagged, __u32 len, struct way *way)
{
	__u32 interface = ctx->ingress_ifindex, zero = 0, more = overhead(flow), *number;
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
	port = map_lookup(&ports, &interface);
	if (!port || frame + sizeof(struct ethhdr) > (void *)(long)ctx->data_end || !is_to(port, frame))
		return WHY_OTHER_MAC;
	/* A tag of priority alone is not put before an outer packet. */
	if (vlan != station->vlan || (more && !vlan != !is_tagged))
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

/* Gives the packet the ports of its flow, and mends its checksum. */
INLINE void set_ports(struct transport_ports *ports, __u8 protocol, __sum16 *checksum, struct flow *flow)
{
	ports->source = flow->source_port;
	ports->destination = flow->destination_port;
	/* Zero is "no checksum" with UDP, and all ones is what its sum is sent as if it is zero (RFC 768). */
	if (protocol == IPPROTO_TCP) {
		*checksum = mended(*checksum, flow->l4);
	} else if (protocol == IPPROTO_UDP && *checksum) {
		*checksum = mended(*checksum, flow->l4);
		if (!*checksum)
			*checksum = 0xffff;
	}
}

/* Sends a packet of `len` bytes on its way. */
INLINE int leave(struct xdp_md *ctx, struct way *way, __u32 len)
{
	void *frame = (void *)(long)ctx->data;

	if (frame + sizeof(way->station->macs) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	__builtin_memcpy(frame, way->station->macs, sizeof(way->station->macs));

	/* The queues of an interface run on several CPUs. */
	__sync_fetch_and_add(&way->tally->packets, 1);
	__sync_fetch_and_add(&way->tally->bytes, len);
	way->tally->seen_ns = ktime_get_coarse_ns();
	return XDP_REDIRECT;
}

INLINE int come_up(__u32 why)
{
	__u64 *counter = map_lookup(&came_up, &why);

	if (counter)
		*counter += 1;
	return COMES_UP;
}

INLINE int carry_v4(struct xdp_md *ctx, struct iphdr *ip, __u16 vlan, int is_tagged)
{
	void *end = (void *)(long)ctx->data_end;
	struct transport_ports *ports;
	struct flow_key key = {};
	__sum16 *checksum = 0;
	struct flow *flow;
	struct way way;
	__u8 protocol;
	enum why why;
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
	ports = (void *)(ip + 1);
	why = judge_state(protocol, ports, len - sizeof(*ip), end, &checksum);
	if (why == FITS)
		why = find_way(ctx, flow, vlan, is_tagged, len, &way);
	if (why != FITS)
		return come_up(why);

	if (flow->edit == EDIT_WRAP) {
		if (!wrap(ctx, flow, vlan, len, end - (void *)ip - len, 1))
			return come_up(WHY_NO_ROOM);
		return leave(ctx, &way, len);
	}
	if (flow->edit == EDIT_TUPLE) {
		ip->saddr = flow->addresses[0];
		ip->daddr = flow->addresses[1];
		set_ports(ports, protocol, checksum, flow);
	}
	ip->ttl--;
	ip->check = mended(ip->check, flow->l3);
	return leave(ctx, &way, len);
}

INLINE int carry_v6(struct xdp_md *ctx, struct ipv6hdr *ip, __u16 vlan, int is_tagged)
{
	void *end = (void *)(long)ctx->data_end;
	struct transport_ports *ports = (void *)(ip + 1);
	struct flow_key6 key = {};
	__sum16 *checksum = 0;
	enum why why = FITS;
	struct flow *flow;
	struct way way;
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
	ports = (void *)(ip + 1);
	why = judge_state(protocol, ports, len - sizeof(*ip), end, &checksum);
	if (why == FITS)
		why = find_way(ctx, flow, vlan, is_tagged, len, &way);
	if (why != FITS)
		return come_up(why);

	if (flow->edit == EDIT_WRAP) {
		if (!wrap(ctx, flow, vlan, len, end - (void *)ip - len, 0))
			return come_up(WHY_NO_ROOM);
		return leave(ctx, &way, len);
	}
	if (flow->edit == EDIT_TUPLE) {
		__builtin_memcpy(&ip->saddr, flow->addresses6, sizeof(flow->addresses6));
		set_ports(ports, protocol, checksum, flow);
	}
	ip->hop_limit--;
	return leave(ctx, &way, len);
}

/* Sends the frame on if it belongs to an offloaded flow and nothing speaks against it; COMES_UP otherwise. */
INLINE int carry(struct xdp_md *ctx)
{
	void *frame = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *network = frame + sizeof(struct ethhdr);
	__u16 vlan = 0, is_tagged = 0;
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
		vlan = HOST16(tag->control) & 0xfff;
		type = tag->type;
		network = tag + 1;
		is_tagged = 1;
	}
	if (type == NET16(ETH_P_IP))
		return carry_v4(ctx, network, vlan, is_tagged);
	if (type == NET16(ETH_P_IPV6))
		return carry_v6(ctx, network, vlan, is_tagged);
	return COMES_UP;
}

#endif
