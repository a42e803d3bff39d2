// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
// Sends one prepared UDP frame again and again, from another source port each time.

#include <linux/bpf.h>

#define SECTION(name) __attribute__((section(name), used))
#define ETH_LEN 14
#define IP_LEN 20

static long (*redirect)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;
static void *(*lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;

// Set before loading.
volatile const __u32 out_ifindex = 0;
volatile const __u32 flows = 1;
volatile const __u32 first_port = 1024;
// One's complement sum of the UDP pseudo header and datagram with source port and checksum zero.
volatile const __u32 partial_sum = 0;

struct {
    int (*type)[BPF_MAP_TYPE_ARRAY];
    int (*max_entries)[1];
    __u32 *key;
    __u32 *value;
} next_flow SECTION(".maps");

SECTION("xdp")
int flood(struct xdp_md *context)
{
    unsigned char *data = (unsigned char *)(long)context->data;
    unsigned char *end = (unsigned char *)(long)context->data_end;
    __u32 zero = 0, *next = lookup(&next_flow, &zero);
    __u32 flow, port, sum;
    __u16 *udp = (__u16 *)(data + ETH_LEN + IP_LEN);

    if (!next || (unsigned char *)(udp + 4) > end)
        return XDP_DROP;
    flow = *next;
    *next = flow + 1 < flows ? flow + 1 : 0;

    port = first_port + flow;
    sum = partial_sum + port;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~sum & 0xffff;
    if (sum == 0)
        sum = 0xffff;
    udp[0] = __builtin_bswap16((__u16)port);
    udp[3] = __builtin_bswap16((__u16)sum);
    return (int)redirect(out_ifindex, 0);
}

char program_license[] SECTION("license") = "Dual MIT/GPL";
