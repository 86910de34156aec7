/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/*
 * What one packet says of its conversation: addresses, protocol, ports, length, TCP flags, fragmentation.
 *
 * Included once, by the program; everything is inlined into it. collector/packet.py has the same rules in Python.
 */
#pragma once
#include <uapi/linux/bpf.h>

#define NOT_IP 0
#define PARSED 1
#define CUT 2 /* the headers go on behind what is in reach */
#define HEADERS 128 /* bytes brought into reach then */

#define IPV6_EXTENSIONS 6

struct packet {
	u64 src_hi, src_lo, dst_hi, dst_lo;
	u64 bytes;
	u32 fragment_id;
	u16 src_port, dst_port, icmp;
	u8 proto, tcp_flags;
	u8 first_fragment, later_fragment, reply, paired;
};

static __always_inline u64 half(const void *at)
{
	return __builtin_bswap64(*(const u64 *)at);
}

static __always_inline u64 mapped(u32 address)
{
	return 0xffff00000000ULL | bpf_ntohl(address);
}

/* Ports or ICMP identifier at `at`; false: not in the packet. */
static __always_inline int transport(struct packet *p, void *at, void *end)
{
	u8 *b = at;

	switch (p->proto) {
	case 6:
		if (at + 14 > end)
			return 0;
		p->tcp_flags = b[13];
		/* fall through */
	case 17:
	case 132:
	case 136:
		if (at + 4 > end)
			return 0;
		p->src_port = b[0] << 8 | b[1];
		p->dst_port = b[2] << 8 | b[3];
		p->paired = 1;
		return 1;
	case 1:
	case 58: {
		if (at + 8 > end)
			return 0;
		u8 type = b[0];
		p->icmp = type << 8 | b[1];
		/* Queries and their replies are one conversation, by identifier (RFC 792, RFC 4443). */
		if (p->proto == 1 ? (type == 8 || type == 0 || (type >= 13 && type <= 18)) : (type == 128 || type == 129)) {
			p->src_port = b[4] << 8 | b[5];
			p->reply = p->proto == 1 ? (type == 0 || type == 14 || type == 16 || type == 18) : type == 129;
			if (p->reply)
				p->icmp = p->proto == 58 ? 128 << 8 : (type == 0 ? 8 : type - 1) << 8;
		}
		p->dst_port = p->src_port;
		return 1;
	}
	}
	return 1;
}

/* Addresses, protocol, length and ports of the skb's packet: PARSED; NOT_IP; or CUT, and then the ports are zero where
 * all but they were found. */
static __always_inline int parse(struct __sk_buff *skb, struct packet *p)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end, *at;
	u16 type;

	if (data + 14 > end)
		return CUT;
	type = *(u16 *)(data + 12);
	at = data + 14;
#pragma unroll
	for (int i = 0; i < 2; i++) { /* 802.1Q inside 802.1ad; a tag that the device took off is in the skb, not here */
		if (type != bpf_htons(0x8100) && type != bpf_htons(0x88a8))
			break;
		if (at + 4 > end)
			return CUT;
		type = *(u16 *)(at + 2);
		at += 4;
	}
	if (type == bpf_htons(0x0800)) {
		u8 *ip = at;
		u32 head;
		u16 offset;
		if (at + 20 > end)
			return CUT;
		head = (ip[0] & 15) * 4;
		if (ip[0] >> 4 != 4 || head < 20)
			return NOT_IP;
		p->bytes = bpf_ntohs(*(u16 *)(at + 2));
		if (!p->bytes) /* BIG TCP: the skb's length is the only one */
			p->bytes = skb->len - (at - data);
		p->src_lo = mapped(*(u32 *)(at + 12));
		p->dst_lo = mapped(*(u32 *)(at + 16));
		p->proto = ip[9];
		offset = bpf_ntohs(*(u16 *)(at + 6));
		p->fragment_id = *(u16 *)(at + 4);
		p->later_fragment = (offset & 0x1fff) != 0;
		p->first_fragment = (offset & 0x3fff) == 0x2000;
		at += head;
	} else if (type == bpf_htons(0x86dd)) {
		u8 next;
		if (at + 40 > end)
			return CUT;
		if (*(u8 *)at >> 4 != 6)
			return NOT_IP;
		p->bytes = bpf_ntohs(*(u16 *)(at + 4));
		p->bytes = p->bytes ? p->bytes + 40 : skb->len - (at - data);
		p->src_hi = half(at + 8);
		p->src_lo = half(at + 16);
		p->dst_hi = half(at + 24);
		p->dst_lo = half(at + 32);
		next = *(u8 *)(at + 6);
		at += 40;
#pragma unroll
		for (int i = 0; i < IPV6_EXTENSIONS; i++) {
			u8 *b = at;
			if (next != 0 && next != 43 && next != 44 && next != 51 && next != 60)
				break;
			if (at + 8 > end)
				return CUT;
			if (next == 44) {
				u16 offset = b[2] << 8 | b[3];
				p->fragment_id = *(u32 *)(at + 4);
				p->later_fragment = (offset & 0xfff8) != 0;
				p->first_fragment = !p->later_fragment && (offset & 1);
				at += 8;
			} else if (next == 51) {
				at += (b[1] + 2) * 4;
			} else {
				at += (b[1] + 1) * 8;
			}
			next = b[0];
			if (p->later_fragment)
				break;
		}
		p->proto = next;
	} else {
		return NOT_IP;
	}
	if (!p->later_fragment && !transport(p, at, end)) {
		p->src_port = p->dst_port = 0;
		return CUT;
	}
	return PARSED;
}

/* As parse, whatever part of the packet is in reach: bringing more of it costs a copy, so only where it is needed. */
static __always_inline int parse_all(struct __sk_buff *skb, struct packet *p)
{
	int parsed = parse(skb, p);

	if (parsed != CUT || skb->data_end - skb->data >= skb->len)
		return parsed;
	bpf_skb_pull_data(skb, skb->len < HEADERS ? skb->len : HEADERS);
	__builtin_memset(p, 0, sizeof(*p));
	return parse(skb, p);
}
