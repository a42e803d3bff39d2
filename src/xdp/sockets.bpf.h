/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* Upwards: to the AF_XDP socket of a frame's interface and queue, with room in front of the frame. */
#ifndef XVS_SOCKETS_H
#define XVS_SOCKETS_H

#include "counters.bpf.h"
#include "headers.bpf.h"
#include "ports.bpf.h"

#define MAX_QUEUES 64

/* Bytes of room a service may ask for, and the EtherType in front of it; src/packet/room.rs has the same. */
#define ROOM_MIN 16
#define ROOM_MAX 64
#define ROOM_MARK 0x88b5

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_XSKMAP);
	MAP_NUMBER(max_entries, MAX_PORTS * MAX_QUEUES);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u32);
} sockets SEC(".maps");

/* What room begins with. */
struct room {
	struct macs macs;
	__be16 mark;
	__be16 len;
};

/*
 * Sends what is ours by its addresses on its way to the socket of its interface and queue; its outcome comes
 * back, another one if it stays here.
 */
INLINE enum outcome to_socket(struct xdp_md *ctx, __u32 place, void *frame, enum outcome outcome)
{
	__u32 queue = ctx->rx_queue_index;
	struct port *port = map_lookup(&ports, &place);

	if (!port)
		return OUTCOME_NO_SOCKET;
	if (!is_to(port, frame))
		return OUTCOME_PASS_OTHER_MAC;
	/* Without the bound a high queue would land in the places of the next interface. */
	if (queue >= MAX_QUEUES || redirect_map(&sockets, port->base + queue, XDP_PASS) != XDP_REDIRECT)
		return OUTCOME_NO_SOCKET;
	return outcome;
}

/* Makes room in front of the frame. Where the driver has none, user space moves the packet. */
INLINE void make_room(struct xdp_md *ctx, __u32 len)
{
	struct room *room = (void *)(long)ctx->data;
	struct macs macs;

	if (len < ROOM_MIN || len > ROOM_MAX || (void *)(room + 1) > (void *)(long)ctx->data_end)
		return;
	macs = room->macs;
	if (adjust_head(ctx, -(int)len))
		return;
	room = (void *)(long)ctx->data;
	if ((void *)(room + 1) > (void *)(long)ctx->data_end)
		return;
	room->macs = macs;
	room->mark = NET16(ROOM_MARK);
	room->len = NET16((__u16)len);
}

#endif
