/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Tunnels: an IP packet is put into another one, as encap.rs does. */
#ifndef XVS_WRAP_H
#define XVS_WRAP_H

#include "checksum.bpf.h"
#include "cpu.bpf.h"
#include "flows.bpf.h"
#include "headers.bpf.h"

/* The least that a tunnel may leave of an MTU, by the version of the outer packet (__ip_vs_get_out_rt). */
#define LEAST_MTU 68
#define LEAST_MTU_V6 1280

#define GRE_LEN 4
#define GUE_LEN 4
/* No longer than the shortest packet that is wrapped. */
#define LONGEST_SHIM (sizeof(struct udphdr) + GUE_LEN)

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
	outer->version = 4;
	outer->ihl = 5;
	outer->tos = inner->class;
	outer->tot_len = NET16((__u16)(inner->len + overhead(flow)));
	outer->frag_off = flow->l4 & COPIES_DF ? inner->dont_fragment : 0;
	/* One that is never fragmented needs none (RFC 6864, 4.1). */
	outer->id = outer->frag_off ? 0 : NET16(next_identification());
	outer->ttl = inner->ttl;
	outer->protocol = carrier(flow, inner);
	outer->check = 0;
	outer->saddr = flow->addresses[0];
	outer->daddr = flow->addresses[1];
	outer->check = (__u16)~header_sum(outer);
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

#endif
