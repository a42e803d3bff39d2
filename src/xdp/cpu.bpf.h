/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* What each CPU has for itself besides counters: the time, and identifications of outer packets. */
#ifndef XVS_CPU_H
#define XVS_CPU_H

#include "bpf.h"

struct cpu {
	__u64 jiffies; /* when `now_ns` was read */
	__u64 now_ns;
	__u64 identification; /* the last one; 0: none yet */
};

struct {
	MAP_NUMBER(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	MAP_NUMBER(max_entries, 1);
	MAP_TYPE(key, __u32);
	MAP_TYPE(value, struct cpu);
} cpus SEC(".maps");

INLINE struct cpu *this_cpu(void)
{
	__u32 zero = 0;

	return map_lookup(&cpus, &zero);
}

/*
 * CLOCK_MONOTONIC, right within two of the kernel's ticks. The coarse clock changes with jiffies, which are there without a
 * call: that would be a fifth of what a packet of an offloaded flow takes.
 */
INLINE __u64 now_ns(void)
{
	struct cpu *cpu = this_cpu();
	__u64 jiffies = jiffies64();

	if (!cpu)
		return ktime_get_coarse_ns();
	if (cpu->jiffies != jiffies) {
		cpu->now_ns = ktime_get_coarse_ns();
		cpu->jiffies = jiffies;
	}
	return cpu->now_ns;
}

/*
 * An identification for a packet that may be fragmented: those of a CPU are counted from a random number on, so that each comes
 * again as late as can be. Those of other CPUs, and of the workers (identifications.rs), are the same no more often than by
 * chance: pieces of two packets are mixed up only if both are on their way at once, and the checksum of what is in the tunnel
 * finds that out (RFC 6864, 5.2: faster than 65,536 packets in the time of reassembly nobody can be unique).
 */
INLINE __u16 next_identification(void)
{
	struct cpu *cpu = this_cpu();

	if (!cpu)
		return (__u16)get_prandom_u32();
	if (!cpu->identification)
		cpu->identification = get_prandom_u32();
	return (__u16)++cpu->identification;
}

#endif
