/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What is counted: outcomes of frames, and why packets of offloaded flows came up. */
#ifndef XVS_COUNTERS_H
#define XVS_COUNTERS_H

#include "bpf.h"

/* Outcomes in the order of `Outcome` in src/xdp/steer/outcome.rs. Those before NO_SOCKET go to a socket. */
enum outcome {
	OUTCOME_SERVICE,
	OUTCOME_SERVICE_ANY_PORT,
	OUTCOME_SERVICE_RANGE,
	OUTCOME_NAT_RETURN,
	OUTCOME_FULL_NAT_RETURN,
	OUTCOME_FRAGMENT,
	OUTCOME_ICMP_ERROR,
	OUTCOME_NO_SOCKET,
	OUTCOME_PASS_OTHER_MAC,
	OUTCOME_PASS_NOT_OURS,
	OUTCOME_PASS_HOST,
	OUTCOME_PASS_NOT_IP,
	OUTCOME_PASS_TAGS,
	OUTCOME_PASS_MALFORMED,
	OUTCOME_OFFLOADED,
	OUTCOMES,
};

/* Why a packet of a flow comes up, in the order of `Why` in src/xdp/steer/offload/came_up.rs. */
enum why {
	WHY_ENDED,    /* user space has taken the flow back */
	WHY_CHANGED,  /* services or routes are not those that the flow was made by */
	WHY_STATE,    /* TCP flags but SYN, which is never of a flow, or an SCTP chunk that may change the connection's state */
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

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_NUMBER(max_entries, OUTCOMES);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
} counters SEC(".maps");

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_NUMBER(max_entries, WHYS);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, __u64);
} came_up SEC(".maps");

INLINE void count(__u32 outcome)
{
	__u64 *counter = map_lookup(&counters, &outcome);

	/* One CPU, one cell, and XDP does not nest: no atomic is needed. */
	if (counter)
		*counter += 1;
}

INLINE void count_why(__u32 why)
{
	__u64 *counter = map_lookup(&came_up, &why);

	if (counter)
		*counter += 1;
}

#endif
