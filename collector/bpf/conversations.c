/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0 */
/*
 * Counts the packets of every conversation at the host side of a pod's veth, in both directions.
 *
 * One program at tc ingress (packets from the pod) and egress (packets to it). "local" is the pod's side, so both
 * directions meet in one map entry, and the value of that entry is the raw record itself. Compiled by BCC, which
 * declares the maps; COUNTER_ENTRIES and CONVERSATION_ENTRIES come from the loader.
 *
 * Exactness: packets and bytes are atomic adds; user space swaps the two counter maps through an array of maps, whose
 * update waits until no program can still write the map that was taken out. Whatever two CPUs may change at once (both
 * ends of a connection close at the same moment) is changed by one atomic instruction; those are of 64 bits, for which
 * BCC's compiler emits them, and need Linux 5.12 (5.18 on arm64).
 */
#include <uapi/linux/bpf.h>
#include <uapi/linux/pkt_cls.h>

#include "packet.h"
#include "record.h"

#define FROM_POD 0 /* tc ingress */
#define TO_POD 1   /* tc egress */

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

#define FIN_LOCAL 1
#define FIN_REMOTE 2
#define ENDED (FIN_LOCAL | FIN_REMOTE)

#define EPHEMERAL 32768 /* Linux' first ephemeral port */
#define RESERVED 1024

struct conversation_key {
	u64 local_hi, local_lo, remote_hi, remote_lo;
	u16 local_port, remote_port;
	u32 ifindex;
	u32 proto;
	u32 icmp; /* type << 8 | code, a reply's made its query's */
};

/* What outlives a drain; read when a counter entry is made and on SYN, FIN and RST. */
struct conversation {
	u64 last_seen_ns; /* when the latest counter entry was made */
	u64 syn_ns;       /* the SYN that a SYN-ACK will answer; zero: none, answered, or sent twice */
	u64 ended;        /* FIN_LOCAL, FIN_REMOTE; a reset counts as both. Changed by or_in() alone */
	u32 lost_epoch;   /* drain in which a record of it was last counted as lost, so that it counts once */
	u16 dst_port;     /* ICMP: type << 8 | code of the first packet; else the responder's port */
	u8 reporter;
	u8 marks;         /* STARTED until the first counter entry is made; GUESSED */
	u8 answered;      /* SYN-ACK seen, or taken up after it */
	u8 zero[7];       /* no hole: the verifier refuses uninitialised bytes */
};

struct fragment_key {
	u64 src_hi, src_lo, dst_hi, dst_lo;
	u32 id, proto;
	u32 ifindex, direction;
};

struct fragment_ports {
	u16 src_port, dst_port;
};

struct loss {
	u64 records, packets, bytes;
};

/* The clock is read once a tick and CPU: that was a third of a packet's cost. */
struct tick {
	u64 jiffies, ns;
};

BPF_TABLE("hash", struct conversation_key, struct tierflow_record, counters_a, COUNTER_ENTRIES);
BPF_TABLE("hash", struct conversation_key, struct tierflow_record, counters_b, COUNTER_ENTRIES);
BPF_ARRAY_OF_MAPS(active, "counters_a", 1);
BPF_TABLE("lru_hash", struct conversation_key, struct conversation, conversations, CONVERSATION_ENTRIES);
BPF_TABLE("lru_hash", struct fragment_key, struct fragment_ports, fragments, 4096);
BPF_TABLE("percpu_array", u32, struct loss, losses, 1);
BPF_TABLE("array", u32, struct loss, said, 1); /* what of it a drain has told; for the collector that comes next */
BPF_TABLE("array", u32, u32, epoch, 1);
BPF_TABLE("percpu_array", u32, struct tick, ticks, 1);

/* Boot time, up to a tick ago. */
static __always_inline u64 recently(void)
{
	u32 zero = 0;
	struct tick *tick = ticks.lookup(&zero);
	u64 jiffies = bpf_jiffies64();

	if (!tick)
		return 0;
	if (tick->jiffies != jiffies) {
		tick->jiffies = jiffies;
		tick->ns = bpf_ktime_get_boot_ns();
	}
	return tick->ns;
}

/* Ports of later fragments are those that the first one of the same datagram carried. */
static __always_inline u8 fragment(struct __sk_buff *skb, struct packet *p, u32 direction)
{
	struct fragment_key key = {};
	struct fragment_ports *known;

	key.src_hi = p->src_hi;
	key.src_lo = p->src_lo;
	key.dst_hi = p->dst_hi;
	key.dst_lo = p->dst_lo;
	key.id = p->fragment_id;
	key.proto = p->proto;
	key.ifindex = skb->ifindex;
	key.direction = direction;
	if (p->first_fragment) {
		struct fragment_ports ports = {p->src_port, p->dst_port};
		fragments.update(&key, &ports);
		return 0;
	}
	known = fragments.lookup(&key);
	if (!known)
		return TIERFLOW_MARK_FRAGMENTED;
	p->src_port = known->src_port;
	p->dst_port = known->dst_port;
	return 0;
}

/* Who began: the sender of a SYN, the receiver of a SYN-ACK or of a reply; else the sender, unless its port alone
 * looks like a service's. */
static __always_inline int sender_began(struct packet *p, u8 *marks)
{
	if (p->proto == 6 && p->tcp_flags & TCP_SYN)
		return !(p->tcp_flags & TCP_ACK);
	if (p->proto == 6)
		*marks |= TIERFLOW_MARK_GUESSED;
	if (p->reply) {
		*marks |= TIERFLOW_MARK_GUESSED;
		return 0;
	}
	if (p->paired && ((p->src_port < RESERVED && p->dst_port >= RESERVED) ||
			  (p->src_port < EPHEMERAL && p->dst_port >= EPHEMERAL))) {
		*marks |= TIERFLOW_MARK_GUESSED;
		return 0;
	}
	return 1;
}

/* Set bits; what the word was before says to just one of several CPUs that it set the last bit. */
static __always_inline u64 or_in(u64 *word, u64 bits)
{
	return __sync_fetch_and_or(word, bits);
}

/* TCP flags and marks of an entry, which share a word. */
static __always_inline void add_flags(struct tierflow_record *entry, u8 fwd, u8 rev, u8 marks)
{
	if (fwd & ~entry->tcp_flags_fwd || rev & ~entry->tcp_flags_rev || marks & ~entry->marks)
		or_in((void *)entry + TIERFLOW_FLAGS_WORD,
		      (u64)fwd << 32 | (u64)rev << 40 | (u64)marks << 48);
}

static __always_inline void lose(struct conversation *state, u64 bytes)
{
	u32 zero = 0;
	struct loss *lost = losses.lookup(&zero);
	u32 *now = epoch.lookup(&zero);

	if (!lost || !now)
		return;
	lost->packets++;
	lost->bytes += bytes;
	if (state->lost_epoch != *now + 1) {
		state->lost_epoch = *now + 1;
		lost->records++;
	}
}

static __always_inline int count(struct __sk_buff *skb, u32 direction)
{
	struct packet p = {};
	struct conversation_key key = {};
	struct tierflow_record *entry;
	struct conversation *state = 0;
	u32 zero = 0;
	u64 now, rtt = 0;
	u8 marks = 0, handshake;
	void *counters;
	int forward, parsed;

	parsed = parse_all(skb, &p);
	/* Cut short before its protocol, it can't be counted. */
	if (parsed == NOT_IP || (parsed == CUT && !p.proto))
		return TC_ACT_UNSPEC;
	if (p.first_fragment | p.later_fragment)
		marks = fragment(skb, &p, direction);
	if (direction == FROM_POD) {
		key.local_hi = p.src_hi;
		key.local_lo = p.src_lo;
		key.remote_hi = p.dst_hi;
		key.remote_lo = p.dst_lo;
		key.local_port = p.src_port;
		key.remote_port = p.dst_port;
	} else {
		key.local_hi = p.dst_hi;
		key.local_lo = p.dst_lo;
		key.remote_hi = p.src_hi;
		key.remote_lo = p.src_lo;
		key.local_port = p.dst_port;
		key.remote_port = p.src_port;
	}
	if ((p.proto == 1 || p.proto == 58) && !p.later_fragment)
		key.icmp = p.icmp;
	key.ifindex = skb->ifindex;
	key.proto = p.proto;
	counters = active.lookup(&zero);
	if (!counters)
		return TC_ACT_UNSPEC;
	handshake = p.proto == 6 && p.tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST);
	entry = bpf_map_lookup_elem(counters, &key);
	now = entry && !handshake ? recently() : bpf_ktime_get_boot_ns();
	if (!entry || handshake) {
		state = conversations.lookup(&key);
		if (state && handshake && (p.tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN) {
			/* A new connection on the ports of one that ended, or that was taken up in its middle. */
			if (state->ended == ENDED || state->answered) {
				conversations.delete(&key);
				state = 0;
			} else {
				state->syn_ns = 0; /* sent again: which one is answered can't be told */
			}
		}
		if (!state) {
			struct conversation fresh = {};
			u8 guess = 0;
			int began = sender_began(&p, &guess);
			fresh.last_seen_ns = now;
			fresh.reporter = (direction == FROM_POD) == began ? TIERFLOW_REPORTER_SRC : TIERFLOW_REPORTER_DST;
			fresh.marks = guess | TIERFLOW_MARK_STARTED;
			fresh.syn_ns = (p.tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN ? now : 0;
			fresh.answered = p.proto == 6 && (p.tcp_flags & TCP_SYN) == 0;
			if (p.proto == 1 || p.proto == 58)
				fresh.dst_port = p.icmp;
			else
				fresh.dst_port = began ? p.dst_port : p.src_port;
			conversations.insert(&key, &fresh); /* the other end's packet may have been first */
			state = conversations.lookup(&key);
			if (!state)
				return TC_ACT_UNSPEC;
		}
		if (handshake) {
			if ((p.tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK)) {
				if (state->syn_ns)
					rtt = (now - state->syn_ns) / 1000 ?: 1;
				state->syn_ns = 0;
				state->answered = 1;
			}
			if (p.tcp_flags & (TCP_FIN | TCP_RST)) {
				u64 ends = p.tcp_flags & TCP_RST ? ENDED : direction == FROM_POD ? FIN_LOCAL : FIN_REMOTE;
				u64 before = or_in(&state->ended, ends);
				if (before != ENDED && (before | ends) == ENDED)
					marks |= TIERFLOW_MARK_COMPLETED;
			}
		}
	}
	if (!entry) {
		struct tierflow_record fresh = {};
		if (state->reporter == TIERFLOW_REPORTER_SRC) {
			fresh.src_hi = key.local_hi;
			fresh.src_lo = key.local_lo;
			fresh.dst_hi = key.remote_hi;
			fresh.dst_lo = key.remote_lo;
			fresh.src_port = key.local_port;
		} else {
			fresh.src_hi = key.remote_hi;
			fresh.src_lo = key.remote_lo;
			fresh.dst_hi = key.local_hi;
			fresh.dst_lo = key.local_lo;
			fresh.src_port = key.remote_port;
		}
		fresh.dst_port = state->dst_port;
		fresh.proto = p.proto;
		fresh.reporter = state->reporter;
		fresh.marks = state->marks;
		fresh.first_seen_ns = now;
		fresh.last_seen_ns = now;
		state->last_seen_ns = now;
		bpf_map_update_elem(counters, &key, &fresh, BPF_NOEXIST);
		entry = bpf_map_lookup_elem(counters, &key);
		if (!entry) {
			lose(state, p.bytes);
			return TC_ACT_UNSPEC;
		}
		state->marks &= ~TIERFLOW_MARK_STARTED;
	}
	forward = (entry->reporter == TIERFLOW_REPORTER_SRC) == (direction == FROM_POD);
	if (forward) {
		__sync_fetch_and_add(&entry->packets_fwd, 1);
		__sync_fetch_and_add(&entry->bytes_fwd, p.bytes);
		add_flags(entry, p.tcp_flags, 0, marks);
	} else {
		__sync_fetch_and_add(&entry->packets_rev, 1);
		__sync_fetch_and_add(&entry->bytes_rev, p.bytes);
		add_flags(entry, 0, p.tcp_flags, marks);
	}
	if (now > entry->last_seen_ns)
		entry->last_seen_ns = now;
	if (rtt)
		entry->handshake_rtt_us = rtt;
	return TC_ACT_UNSPEC;
}

int from_pod(struct __sk_buff *skb)
{
	return count(skb, FROM_POD);
}

int to_pod(struct __sk_buff *skb)
{
	return count(skb, TO_POD);
}
