/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* A walk along the extension headers of IPv6, of packets and of those that ICMP errors quote. */
#ifndef XVS_EXTENSIONS_H
#define XVS_EXTENSIONS_H

#include "headers.bpf.h"

/* IPv6 extension headers looked through, and their bytes; real traffic has one or two. src/packet/ipv6.rs has the same. */
#define MAX_EXTENSIONS 6
#define MAX_EXTENSIONS_LEN 1024

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

#endif
