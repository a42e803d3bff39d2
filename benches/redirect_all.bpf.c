// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
// Gives every frame to the AF_XDP socket of the queue it arrived at; without a socket the kernel has it.

#include <linux/bpf.h>

#define SECTION(name) __attribute__((section(name), used))

static long (*redirect_map)(void *map, __u64 key, __u64 flags) = (void *)BPF_FUNC_redirect_map;

struct {
    int (*type)[BPF_MAP_TYPE_XSKMAP];
    int (*max_entries)[64];
    __u32 *key;
    __u32 *value;
} sockets SECTION(".maps");

// Frames of several buffers too, as they are.
SECTION("xdp.frags")
int redirect_all(struct xdp_md *context)
{
    return (int)redirect_map(&sockets, context->rx_queue_index, XDP_PASS);
}

// For the far end of a bench: every frame is counted by its interface and costs nothing more.
SECTION("xdp")
int drop_all(struct xdp_md *context)
{
    return XDP_DROP;
}

char program_license[] SECTION("license") = "Dual MIT/GPL";
