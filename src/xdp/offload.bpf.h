/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * Offloaded flows: packets of established connections, readdressed and sent on without coming up to user space.
 *
 *   flows     (protocol, addresses, ports of a packet) -> what to do to it, and the place of its tally
 *   tallies   place -> packets, bytes, last seen; and whether the flow still holds. User space has it mapped into its
 *             memory: one store there and the flow is off, without a system call
 *   current   the numbers of the services and of the routes by which flows may go now; one made by others comes up
 *   hops      next hop -> number of its station; 0: nobody knows the MAC address
 *   stations  MAC addresses, interface, MTU. Never written while a hop leads there: a change is a new station, and one
 *             store into hops turns every flow over at once
 *   exits     interfaces, to be redirected to
 *
 * User space decides what is in them, and only for what it would do itself to each packet, byte for byte. Whatever may
 * change a connection or needs an answer comes up: SYN, FIN, RST, TCP without ACK, fragments, IP options, a TTL that ends, what is too
 * long, another VLAN, wrong headers. So does every packet if anything is missing: nothing is lost with a flow but time.
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

struct flow {
	__u32 place;  /* of its tally */
	__u32 serial; /* what the tally says too, while the flow holds */
	__u32 hop;
	__u32 edit; /* what the following is for */
	__be32 source;
	__be32 destination;
	__be16 source_port;
	__be16 destination_port;
	__u16 l3; /* differences of the checksums (RFC 1624), in host order */
	__u16 l4; /* EDIT_WRAP: enum wrap, and COPIES_DF */
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
#define WRAP_KIND 0xff

/* The least that a tunnel may leave of an MTU (__ip_vs_get_out_rt). */
#define LEAST_MTU 68

#define GRE_LEN 4
#define GUE_LEN 4

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

/* Not preallocated for the reason that KEY_MAP has. User space sets the sizes of these two. */
struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_HASH);
	MAP_NUMBER(map_flags, BPF_F_NO_PREALLOC);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, struct flow_key);
	MAP_TYPE(value, struct flow);
} flows SEC(".maps");

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
	__u32 kind = flow->l4 & WRAP_KIND;

	if (flow->edit != EDIT_WRAP)
		return 0;
	if (kind == WRAP_GUE)
		return sizeof(struct iphdr) + sizeof(struct udphdr) + GUE_LEN;
	return kind == WRAP_GRE ? sizeof(struct iphdr) + GRE_LEN : sizeof(struct iphdr);
}

/*
 * Wraps the packet of `len` bytes, behind which is `padding`, as encap.rs does; with a tag if there is a VLAN. The
 * pointers into the frame are void then. False, and nothing has changed, if the driver has no room for it.
 */
INLINE int wrap(struct xdp_md *ctx, struct flow *flow, __u16 vlan, __u32 len, __u32 padding)
{
	__u32 more = overhead(flow), kind = flow->l4 & WRAP_KIND, sum = 0;
	struct vlan_tag *tag;
	void *frame, *end;
	struct iphdr *inner, *outer;
	__u16 *words, *shim;

	if (adjust_head(ctx, -(int)more))
		return 0;
	if (padding)
		adjust_tail(ctx, -(int)padding);
	frame = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (!vlan) {
		outer = frame + sizeof(struct ethhdr);
		if ((void *)outer > end)
			return 1;
		((struct ethhdr *)frame)->h_proto = NET16(ETH_P_IP);
	} else {
		tag = frame + sizeof(struct ethhdr);
		outer = (void *)(tag + 1);
		if ((void *)outer > end)
			return 1;
		((struct ethhdr *)frame)->h_proto = NET16(ETH_P_8021Q);
		tag->control = NET16(vlan);
		tag->type = NET16(ETH_P_IP);
	}
	shim = (void *)(outer + 1);
	inner = (void *)outer + more;
	if (more > sizeof(struct iphdr) + sizeof(struct udphdr) + GUE_LEN || (void *)(inner + 1) > end ||
	    (void *)(shim + 6) > end)
		return 1;

	inner->ttl--;
	inner->check = mended(inner->check, flow->l3);
	outer->version = 4;
	outer->ihl = 5;
	/* A congestion that the packet was told is told by it alone (RFC 3168, 9.1.1). */
	outer->tos = (inner->tos & 3) == 3 ? inner->tos & ~1 : inner->tos;
	outer->tot_len = NET16((__u16)(len + more));
	outer->frag_off = flow->l4 & COPIES_DF ? inner->frag_off & NET16(IPV4_DONT_FRAGMENT) : 0;
	/* One that is never fragmented needs none (RFC 6864, 4.1). */
	outer->id = outer->frag_off ? 0 : (__u16)get_prandom_u32();
	outer->ttl = inner->ttl;
	outer->check = 0;
	outer->saddr = flow->source;
	outer->daddr = flow->destination;
	if (kind == WRAP_GUE) {
		outer->protocol = IPPROTO_UDP;
		shim[0] = flow->source_port;
		shim[1] = flow->destination_port;
		shim[2] = NET16((__u16)(len + sizeof(struct udphdr) + GUE_LEN));
		shim[3] = 0;
		shim[4] = NET16(IPPROTO_IPIP);
		shim[5] = 0;
	} else if (kind == WRAP_GRE) {
		outer->protocol = IPPROTO_GRE;
		shim[0] = 0;
		shim[1] = NET16(ETH_P_IP);
	} else {
		outer->protocol = IPPROTO_IPIP;
	}
	words = (void *)outer;
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	outer->check = (__u16)~(sum + (sum >> 16));
	return 1;
}

/* Sends the frame on if it belongs to an offloaded flow and nothing speaks against it; COMES_UP otherwise. */
INLINE int carry(struct xdp_md *ctx)
{
	void *frame = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end, *network = frame + sizeof(struct ethhdr);
	__u32 interface = ctx->ingress_ifindex, zero = 0, payload_len, *number;
	struct flow_key key = {};
	struct station *station;
	struct current *now;
	struct tally *tally;
	struct tcphdr *tcp;
	struct udphdr *udp;
	struct iphdr *ip;
	struct flow *flow;
	struct port *port;
	__sum16 *checksum;
	__u16 len, vlan = 0;
	__be16 type;

	if (network > end)
		return COMES_UP;
	type = ((struct ethhdr *)frame)->h_proto;
	if (type == NET16(ETH_P_8021Q)) {
		struct vlan_tag *tag = network;

		if ((void *)(tag + 1) > end)
			return COMES_UP;
		vlan = HOST16(tag->control) & 0xfff;
		type = tag->type;
		network = tag + 1;
	}
	ip = network;
	if (type != NET16(ETH_P_IP) || (void *)(ip + 1) > end)
		return COMES_UP;
	len = HOST16(ip->tot_len);
	/* No options; the least MTU of IPv4 is 68. */
	if (*(__u8 *)ip != 0x45 || ip->frag_off & NET16(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET) || ip->ttl <= 1 ||
	    network + len > end || len < sizeof(*ip) + sizeof(*udp))
		return COMES_UP;
	payload_len = len - sizeof(*ip);

	/* UDP's header is the shorter one. */
	udp = (void *)(ip + 1);
	if ((void *)(udp + 1) > end)
		return COMES_UP;
	if (ip->protocol == IPPROTO_TCP) {
		tcp = (void *)udp;
		if ((void *)(tcp + 1) > end || tcp->doff < 5 || tcp->doff * 4u > payload_len || tcp->syn || tcp->fin ||
		    tcp->rst || !tcp->ack)
			return COMES_UP;
		checksum = &tcp->check;
	} else if (ip->protocol == IPPROTO_UDP) {
		if (HOST16(udp->len) < sizeof(*udp) || HOST16(udp->len) > payload_len)
			return COMES_UP;
		checksum = &udp->check;
	} else {
		return COMES_UP;
	}

	key.source = ip->saddr;
	key.destination = ip->daddr;
	key.source_port = udp->source;
	key.destination_port = udp->dest;
	key.protocol = ip->protocol;
	flow = map_lookup(&flows, &key);
	if (!flow)
		return COMES_UP;
	tally = map_lookup(&tallies, &flow->place);
	now = map_lookup(&current, &zero);
	number = map_lookup(&hops, &flow->hop);
	if (!tally || !now || !number || tally->serial != flow->serial || tally->services != now->services ||
	    tally->routes != now->routes || !*number)
		return COMES_UP;
	station = map_lookup(&stations, number);
	port = map_lookup(&ports, &interface);
	if (!station || !port || !is_to(port, frame) || vlan != station->vlan ||
	    len + overhead(flow) > station->mtu || !is_right(ip))
		return COMES_UP;
	/* A tag of priority alone is not put before the outer packet. */
	if (flow->edit == EDIT_WRAP && (station->mtu < LEAST_MTU + overhead(flow) ||
					!vlan != (network == frame + sizeof(struct ethhdr))))
		return COMES_UP;
	/*
	 * What is in the map and what is redirected to may differ for a moment: last of all that may fail. Redirected, too, what
	 * leaves by where it came from: a stream through veth's XDP_TX stalled (Linux 6.18), through its redirect it does not.
	 */
	if (redirect_map(&exits, station->exit, 0) != XDP_REDIRECT)
		return COMES_UP;

	if (flow->edit == EDIT_WRAP) {
		if (!wrap(ctx, flow, vlan, len, end - network - len))
			return COMES_UP;
		frame = (void *)(long)ctx->data;
		if (frame + sizeof(station->macs) > (void *)(long)ctx->data_end)
			return XDP_ABORTED;
		goto leaves;
	}
	if (flow->edit == EDIT_TUPLE) {
		ip->saddr = flow->source;
		ip->daddr = flow->destination;
		udp->source = flow->source_port;
		udp->dest = flow->destination_port;
		/* Zero is "no checksum" with UDP, and all ones is what its sum is sent as if it is zero (RFC 768). */
		if (ip->protocol == IPPROTO_TCP) {
			*checksum = mended(*checksum, flow->l4);
		} else if (*checksum) {
			*checksum = mended(*checksum, flow->l4);
			if (!*checksum)
				*checksum = 0xffff;
		}
	}
	ip->ttl--;
	ip->check = mended(ip->check, flow->l3);
leaves:
	__builtin_memcpy(frame, station->macs, sizeof(station->macs));

	/* The queues of an interface run on several CPUs. */
	__sync_fetch_and_add(&tally->packets, 1);
	__sync_fetch_and_add(&tally->bytes, len);
	tally->seen_ns = ktime_get_coarse_ns();
	return XDP_REDIRECT;
}

#endif
