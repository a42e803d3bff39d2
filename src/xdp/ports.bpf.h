/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The interfaces that the program is attached to. One program and one map serve all of them. */
#ifndef XVS_PORTS_H
#define XVS_PORTS_H

#include "headers.bpf.h"

/* src/xdp/steer has the same numbers. */
#define MAX_PORTS 64
/* More than there are ports, so that they rarely want the same ones. */
#define PORT_PLACES 128

/* An interface that the program is attached to. */
struct port {
	__u32 interface; /* 0: an empty place */
	__u32 base;      /* the place of its queue 0 in `sockets` */
	__be16 mac[3];
	__u16 unused;    /* 0 */
};

/*
 * At the place that the interface's index says, or if that is taken the next one that is free: a look-up in a hash map would be
 * a quarter of what a packet of an offloaded flow takes. A place is written before the program is attached to the interface and
 * emptied after it is detached; only its MAC address may change between, and a frame that comes at that very moment be
 * taken for another machine's.
 */
struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_ARRAY);
	MAP_NUMBER(max_entries, PORT_PLACES);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct port);
} ports SEC(".maps");

/*
 * The place of an interface, or one that there is not. A number, of which the verifier need not know whether it is a place: with a
 * pointer it would follow all that comes after twice.
 */
INLINE __u32 find_place(__u32 interface)
{
#pragma clang loop unroll(disable)
	for (__u32 i = 0; i < PORT_PLACES; i++) {
		__u32 place = (interface + i) % PORT_PLACES;
		struct port *port = map_lookup(&ports, &place);

		if (port && port->interface == interface)
			return place;
	}
	return PORT_PLACES;
}

/*
 * Whether the frame is to the interface itself. That leaves out groups as well: a router forwards nothing that
 * came as a link broadcast or multicast (RFC 1812, 5.3.4).
 */
INLINE int is_to(struct port *port, void *frame)
{
	struct macs *macs = frame;

	return macs->destination[0] == port->mac[0] && macs->destination[1] == port->mac[1] &&
	       macs->destination[2] == port->mac[2];
}

#endif
