/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The little that a BPF program needs beyond the kernel's own user-space headers: sections, map
 * definitions by type information, byte order and three helpers by their number in linux/bpf.h.
 */
#ifndef XVS_BPF_H
#define XVS_BPF_H

#include <linux/bpf.h>
#include <linux/types.h>

/* The loader finds programs, maps and the licence by the name of their section. */
#define SEC(name) __attribute__((section(name), used))

/*
 * Compiled with LONG_FRAMES, the program takes frames of several buffers, of which it sees the first. Kernels before 5.18
 * refuse such a program.
 */
#ifdef LONG_FRAMES
#define XDP "xdp.frags"
#else
#define XDP "xdp"
#endif

/* BPF functions live on 512 bytes of stack and small programs verify fastest as one function. */
#define INLINE static inline __attribute__((always_inline))

/*
 * A map is a struct that is never read: the loader takes numbers from the length of an array type
 * and keys and values from the type that a pointer points to.
 */
#define MAP_NUMBER(field, number) int (*field)[number]
#define MAP_TYPE(field, type) __typeof__(type) *field

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NET16(value) ((__be16)__builtin_bswap16((__u16)(value)))
#else
#define NET16(value) ((__be16)(value))
#endif
/* The swap is its own inverse; the second name says which way a value travels. */
#define HOST16(value) host16(value)

/*
 * Verifiers of kernels up to 6.12 at least take the outcome of a swap for any number, and refuse to add it to a pointer.
 * The compiler knows better and would leave the mask out.
 */
INLINE __u32 host16(__be16 value)
{
	__u32 host = (__u16)NET16(value);

	asm volatile("" : "+r"(host));
	return host & 0xffff;
}

static void *(*const map_lookup)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const adjust_tail)(struct xdp_md *ctx, int delta) = (void *)BPF_FUNC_xdp_adjust_tail;
static __u32 (*const get_prandom_u32)(void) = (void *)BPF_FUNC_get_prandom_u32;
static long (*const adjust_head)(struct xdp_md *ctx, int delta) = (void *)BPF_FUNC_xdp_adjust_head;
static __u64 (*const get_frame_len)(struct xdp_md *ctx) = (void *)BPF_FUNC_xdp_get_buff_len;
static __u64 (*const jiffies64)(void) = (void *)BPF_FUNC_jiffies64;
static __u64 (*const ktime_get_coarse_ns)(void) = (void *)BPF_FUNC_ktime_get_coarse_ns;
static long (*const redirect_map)(void *map, __u64 index, __u64 action_if_absent) =
	(void *)BPF_FUNC_redirect_map;

#endif
