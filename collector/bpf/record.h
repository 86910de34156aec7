/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/*
 * The raw record: one bidirectional conversation seen at one point in one interval.
 *
 * The same bytes travel from the kernel's map to the flows.raw topic; schemas/record.py describes them to numpy and a
 * test compares sizes and offsets. Integers are in host order (little-endian on every supported machine); an address is
 * two 64-bit halves whose numeric order is the address order, IPv4 as ::ffff:a.b.c.d.
 */
#ifndef TIERFLOW_RECORD_H
#define TIERFLOW_RECORD_H

#define TIERFLOW_REPORTER_SRC 1 /* seen leaving the initiator */
#define TIERFLOW_REPORTER_DST 2 /* seen reaching the responder */
#define TIERFLOW_REPORTER_FWD 3 /* seen in between */

#define TIERFLOW_MARK_STARTED 1    /* first record of this conversation at this point */
#define TIERFLOW_MARK_COMPLETED 2  /* last one: closed, reset or timed out */
#define TIERFLOW_MARK_ALIVE 4      /* still open, no packet in this interval */
#define TIERFLOW_MARK_GUESSED 8    /* no SYN seen: initiator taken from first packet and ports */
#define TIERFLOW_MARK_FRAGMENTED 16 /* holds packets counted by their fragment's address pair only */

struct tierflow_record {
	__u64 src_hi, src_lo;         /* initiator */
	__u64 dst_hi, dst_lo;         /* responder, as the packet named it */
	__u64 nat_dst_hi, nat_dst_lo; /* responder after DNAT; zero: not translated or not known */
	__u64 first_seen_ns;          /* Unix time on the topic; the kernel's boot-time clock inside the map */
	__u64 last_seen_ns;           /* live: up to a tick of the kernel (1 to 10 ms) early, never before first_seen_ns */
	__u64 bytes_fwd;              /* initiator to responder: IP packet length, as nftables and Calico count */
	__u64 bytes_rev;
	__u32 packets_fwd;
	__u32 packets_rev;
	__u32 handshake_rtt_us;       /* SYN to SYN-ACK as seen here; zero: not seen in this interval */
	__u16 src_port;               /* ICMP: identifier */
	__u16 dst_port;               /* ICMP: type << 8 | code of the first packet */
	__u16 nat_dst_port;
	__u8 proto;                   /* IANA protocol number */
	__u8 reporter;
	/* These share the last aligned word of eight bytes, so that two CPUs can or flags in at once. */
	__u8 tcp_flags_fwd;
	__u8 tcp_flags_rev;
	__u8 marks;
	__u8 reserved;
};

#define TIERFLOW_FLAGS_WORD 96 /* its offset */

#endif
