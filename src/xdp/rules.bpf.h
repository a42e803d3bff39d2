/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * What user space says is ours: addresses, ports and ranges. src/xdp/steer has the same numbers; tests there compare them with
 * this text.
 */
#ifndef XVS_RULES_H
#define XVS_RULES_H

#include "bpf.h"

#define MAX_SERVICES 65536
#define MAX_NAT_SERVERS 65536
#define MAX_VIPS 16384
#define MAX_HOST_ADDRESSES 16384
#define MAX_LOCAL_ADDRESSES 16384
#define MAX_TUNNELS 65536
#define MAX_RANGES 64

/* An update adds the new before it removes the old, so both have to fit side by side. */
#define OLD_AND_NEW(limit) (2 * (limit))

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
/*
 * Whether there are any of port 0 in `services` and in `nat_servers`: nobody looks for what is not there. User space says
 * that there are before it adds the first one, and that there are none after it has removed the last one.
 */
struct any_port {
	__u32 services;
	__u32 servers;
};

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct any_port);
} any_port SEC(".maps");

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

#endif
