// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
// Runs another program on a fresh frame each time, for a bench that repeats: what forwards a frame changes it, and would not
// know it again.

#include <linux/bpf.h>

#define SECTION(name) __attribute__((section(name), used))

// benches/steering.rs has the same.
#define FRAME_LEN 128
#define MAX_FRAMES 65536

static void *(*const map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const adjust_head)(struct xdp_md *context, int delta) = (void *)BPF_FUNC_xdp_adjust_head;
static long (*const tail_call)(void *context, void *map, __u32 index) = (void *)BPF_FUNC_tail_call;

struct frame {
    __u64 words[FRAME_LEN / 8];
};

struct {
    int (*type)[BPF_MAP_TYPE_ARRAY];
    int (*max_entries)[MAX_FRAMES];
    __u32 *key;
    struct frame *value;
} frames SECTION(".maps");

// How many of them there are, and the one whose turn it is.
struct {
    int (*type)[BPF_MAP_TYPE_ARRAY];
    int (*max_entries)[2];
    __u32 *key;
    __u32 *value;
} turn SECTION(".maps");

struct {
    int (*type)[BPF_MAP_TYPE_PROG_ARRAY];
    int (*max_entries)[1];
    __u32 *key;
    __u32 *value;
} next SECTION(".maps");

SECTION("xdp")
int refill(struct xdp_md *context)
{
    __u32 zero = 0, one = 1;
    __u32 *count = map_lookup(&turn, &zero), *number = map_lookup(&turn, &one);
    long len = context->data_end - context->data;
    struct frame *frame, *to;

    if (!count || !number)
        return XDP_ABORTED;
    *number = *number + 1 < *count ? *number + 1 : 0;
    frame = map_lookup(&frames, number);
    // What a tunnel's headers or room made longer.
    if (!frame || (len != FRAME_LEN && adjust_head(context, (int)len - FRAME_LEN)))
        return XDP_ABORTED;
    to = (void *)(long)context->data;
    if ((void *)(to + 1) > (void *)(long)context->data_end)
        return XDP_ABORTED;
#pragma unroll
    for (int i = 0; i < FRAME_LEN / 8; i++)
        to->words[i] = frame->words[i];
    tail_call(context, &next, 0);
    return XDP_ABORTED;
}

// What running another program costs by itself.
SECTION("xdp")
int nothing(struct xdp_md *context)
{
    return XDP_PASS;
}

char program_license[] SECTION("license") = "Dual MIT/GPL";
