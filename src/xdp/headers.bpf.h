/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Packet headers for which the kernel's user-space headers have no struct, or only one that needs a libc. */
#ifndef XVS_HEADERS_H
#define XVS_HEADERS_H

#include "bpf.h"

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

/* What a frame begins with. Aligned to 2 bytes, and copied so. */
struct macs {
	__be16 destination[3];
	__be16 source[3];
};

struct vlan_tag {
	__be16 control;
	__be16 type; /* of what follows the tag */
};

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

INLINE int is_balanced(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

#endif
