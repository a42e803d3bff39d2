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
 * change a connection or needs an answer comes up (offload.bpf.h): SYN, FIN, RST, TCP without ACK, SCTP that does not begin with data or
 * heartbeats, fragments, IP options and extension headers, a TTL that ends, what is too long, another VLAN, wrong headers.
 * So does every packet if anything is missing: nothing is lost with a flow but time.
 */
#ifndef XVS_FLOWS_H
#define XVS_FLOWS_H

#include "ports.bpf.h"

/* src/net has the same number of next hops, src/xdp/steer/offload the others. */
#define MAX_HOPS 65536
/* Twice as many, so that a change finds one that no packet in flight may still read. */
#define MAX_STATIONS (2 * MAX_HOPS)

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
	struct macs macs;
	__u32 exit;
	__u32 interface;
	__u16 mtu;
	__u16 vlan; /* 0: none */
};

/* Not preallocated for the reason that KEY_MAP (rules.bpf.h) has. User space sets the sizes of these three. */
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

#endif
