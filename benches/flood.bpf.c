// SPDX-License-Identifier: (MIT OR Apache-2.0) OR GPL-2.0-only
// Sends one prepared UDP datagram or TCP SYN again and again, each time from the source address and port of the
// next flow.

#include <linux/bpf.h>

#define SECTION(name) __attribute__((section(name), used))
#define IP_CHECKSUM_AT 24
#define IP_SOURCE_AT 26
#define SOURCE_PORT_AT 34
#define HEADER_WORDS 14

static long (*redirect)(__u32 ifindex, __u64 flags) = (void *)BPF_FUNC_redirect;
static void *(*lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;

// Set before loading.
volatile const __u32 out_ifindex = 0;
volatile const __u32 flows = 1;
volatile const __u32 first_address = 0;
volatile const __u32 first_port = 1024;
// Flows that share an address: one for each of so many ports.
volatile const __u32 ports = 1;
// The frame's beginning. All of it is written each time: the frame's memory is used again after the director has
// rewritten what is in it.
volatile const __u32 header[HEADER_WORDS] = {0};
// One's complement sums of the IP header, and of pseudo header and segment, with all that differs from flow to flow
// and the checksums themselves left out.
volatile const __u32 ip_sum = 0;
volatile const __u32 transport_sum = 0;
// Where the checksum is: at 50 in TCP, at 40 in UDP.
volatile const __u32 is_tcp = 0;

struct {
    int (*type)[BPF_MAP_TYPE_ARRAY];
    int (*max_entries)[1];
    __u32 *key;
    __u32 *value;
} next_flow SECTION(".maps");

static __u16 folded(__u32 sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

SECTION("xdp")
int flood(struct xdp_md *context)
{
    unsigned char *data = (unsigned char *)(long)context->data;
    unsigned char *end = (unsigned char *)(long)context->data_end;
    __u32 zero = 0, *next = lookup(&next_flow, &zero);
    __u32 flow, address, port, varying;
    __u16 checksum;

    if (!next || data + 4 * HEADER_WORDS > end)
        return XDP_DROP;
    flow = *next;
    *next = flow + 1 < flows ? flow + 1 : 0;

#pragma unroll
    for (int i = 0; i < HEADER_WORDS; i++)
        ((__u32 *)data)[i] = header[i];

    address = first_address + flow / ports;
    port = first_port + flow % ports;
    varying = (address >> 16) + (address & 0xffff);
    *(__u16 *)(data + IP_CHECKSUM_AT) = __builtin_bswap16(folded(ip_sum + varying));
    *(__u16 *)(data + IP_SOURCE_AT) = __builtin_bswap16(address >> 16);
    *(__u16 *)(data + IP_SOURCE_AT + 2) = __builtin_bswap16(address & 0xffff);
    *(__u16 *)(data + SOURCE_PORT_AT) = __builtin_bswap16((__u16)port);
    checksum = folded(transport_sum + varying + port);
    if (is_tcp)
        *(__u16 *)(data + 50) = __builtin_bswap16(checksum);
    else
        *(__u16 *)(data + 40) = __builtin_bswap16(checksum ? checksum : 0xffff);
    return (int)redirect(out_ifindex, 0);
}

char program_license[] SECTION("license") = "Dual MIT/GPL";
