// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
// Gives every frame to the AF_XDP socket of the queue it arrived at; without a socket the kernel has it.

#include <linux/bpf.h>

#define SECTION(name) __attribute__((section(name), used))

static long (*redirect)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;
static long (*redirect_map)(void *map, __u64 key, __u64 flags) = (void *)BPF_FUNC_redirect_map;

// Of `forward_all`, set before loading.
volatile const __u32 out_ifindex = 0;
volatile const __u8 out_macs[12] = {0};

struct {
    int (*type)[BPF_MAP_TYPE_XSKMAP];
    int (*max_entries)[64];
    __u32 *key;
    __u32 *value;
} sockets SECTION(".maps");

SECTION("xdp")
int redirect_all(struct xdp_md *context)
{
    return (int)redirect_map(&sockets, context->rx_queue_index, XDP_PASS);
}

// The least that a forwarder in the driver can do: new MAC addresses, and out by the other interface.
SECTION("xdp")
int forward_all(struct xdp_md *context)
{
    unsigned char *frame = (unsigned char *)(long)context->data;

    if (frame + sizeof(out_macs) > (unsigned char *)(long)context->data_end)
        return XDP_DROP;
#pragma unroll
    for (unsigned int i = 0; i < sizeof(out_macs); i++)
        frame[i] = out_macs[i];
    return (int)redirect(out_ifindex, 0);
}

// For the far end of a bench: every frame is counted by its interface and costs nothing more.
SECTION("xdp")
int drop_all(struct xdp_md *context)
{
    return XDP_DROP;
}

char program_license[] SECTION("license") = "Dual MIT/GPL";
