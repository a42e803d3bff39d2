/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Checksums of IPv4 headers, whole and after an edit. */
#ifndef XVS_CHECKSUM_H
#define XVS_CHECKSUM_H

#include "headers.bpf.h"

/* The checksum after an edit that makes this difference: HC' = ~(~HC + ~m + m'), equation 3 of RFC 1624. */
INLINE __sum16 mended(__sum16 checksum, __u16 difference)
{
	__u32 sum = (__u16)~HOST16(checksum) + (__u32)difference;

	return NET16((__u16)~((sum & 0xffff) + (sum >> 16)));
}

/* The sum of a header without options, folded. */
INLINE __u32 header_sum(struct iphdr *ip)
{
	__u16 *words = (void *)ip;
	__u32 sum = 0;

#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* Whether the checksum of such a header is right: its words, the checksum included, are all ones then. */
INLINE int is_right(struct iphdr *ip)
{
	return header_sum(ip) == 0xffff;
}

#endif
