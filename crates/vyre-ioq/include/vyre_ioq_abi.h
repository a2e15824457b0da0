/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * The numbers of the vyre I/O queue. ABI.md in the repository says what they mean.
 *
 * Written by `cargo xtask header` from the Rust sources: change those, not this file. It includes
 * nothing where it is compiled at run time for a GPU, and <stddef.h> elsewhere. */

#ifndef VYRE_IOQ_ABI_H
#define VYRE_IOQ_ABI_H

/* Sizes in bytes and slots, and versions. */
#define VYRE_IOQ_SLOT_BYTES 64u
#define VYRE_IOQ_BARE_SLOT_BYTES 32u
#define VYRE_IOQ_HEADER_BYTES 4096u
#define VYRE_IOQ_HEADER_ALIGN 4096u
#define VYRE_IOQ_MAX_SLOTS 4096u
#define VYRE_IOQ_MAX_BARE_SLOTS 64u
#define VYRE_IOQ_GROUP_SLOTS 64u
#define VYRE_IOQ_ABI_MAJOR 1u
#define VYRE_IOQ_ABI_MINOR 0u

/* Words of a slot, by number. */
#define VYRE_IOQ_WORD_OP 0u
#define VYRE_IOQ_WORD_SOURCE 1u
#define VYRE_IOQ_WORD_DESTINATION 2u
#define VYRE_IOQ_WORD_FILE_OFFSET_LOW 3u
#define VYRE_IOQ_WORD_FILE_OFFSET_HIGH 4u
#define VYRE_IOQ_WORD_COUNT 5u
#define VYRE_IOQ_WORD_STATUS 6u
#define VYRE_IOQ_WORD_TAG 7u
#define VYRE_IOQ_WORD_BUFFER_OFFSET_LOW 8u
#define VYRE_IOQ_WORD_BUFFER_OFFSET_HIGH 9u
#define VYRE_IOQ_WORD_FLAGS 10u
#define VYRE_IOQ_WORD_DEADLINE 11u
#define VYRE_IOQ_WORD_RESERVED 12u

/* Words of the header, by number. */
#define VYRE_IOQ_HEADER_WORD_MAGIC 0u
#define VYRE_IOQ_HEADER_WORD_MAJOR 2u
#define VYRE_IOQ_HEADER_WORD_MINOR 3u
#define VYRE_IOQ_HEADER_WORD_STRIDE 4u
#define VYRE_IOQ_HEADER_WORD_SLOTS 5u
#define VYRE_IOQ_HEADER_WORD_SLOTS_OFFSET 6u
#define VYRE_IOQ_HEADER_WORD_FEATURES 7u
#define VYRE_IOQ_HEADER_WORD_QUEUE_ID 8u
#define VYRE_IOQ_HEADER_WORD_STATE 16u
#define VYRE_IOQ_HEADER_WORD_HEARTBEAT 17u
#define VYRE_IOQ_HEADER_WORD_ASLEEP 18u
#define VYRE_IOQ_HEADER_WORD_DOORBELL 32u
#define VYRE_IOQ_HEADER_WORD_IN_USE 64u
#define VYRE_IOQ_HEADER_WORD_END 128u

/* Operations: WORD_OP. */
#define VYRE_IOQ_OP_READ 1u
#define VYRE_IOQ_OP_WRITE 2u
#define VYRE_IOQ_OP_FENCE 3u
#define VYRE_IOQ_OP_SYNC 4u
#define VYRE_IOQ_OP_PREFETCH 5u

/* States of a slot: WORD_STATUS. */
#define VYRE_IOQ_STATUS_EMPTY 0x0u
#define VYRE_IOQ_STATUS_PUBLISHED 0x1u
#define VYRE_IOQ_STATUS_CLAIMED 0x2u
#define VYRE_IOQ_STATUS_OK 0x10u
#define VYRE_IOQ_STATUS_ERROR 0x11u

/* Flags: WORD_FLAGS. */
#define VYRE_IOQ_FLAG_DURABLE 1u
#define VYRE_IOQ_FLAG_EXACT 2u

/* Features: HEADER_WORD_FEATURES. */
#define VYRE_IOQ_FEATURE_DOORBELL 1u

/* What the host says of itself: HEADER_WORD_STATE. */
#define VYRE_IOQ_STATE_STARTING 0u
#define VYRE_IOQ_STATE_RUNNING 1u
#define VYRE_IOQ_STATE_DRAINING 2u
#define VYRE_IOQ_STATE_STOPPED 3u
#define VYRE_IOQ_STATE_FAILED 4u

/* What the host itself answers with in WORD_COUNT; other errnos are the kernel's. */
#define VYRE_IOQ_ERRNO_EIO 5u
#define VYRE_IOQ_ERRNO_EBADF 9u
#define VYRE_IOQ_ERRNO_EACCES 13u
#define VYRE_IOQ_ERRNO_EINVAL 22u
#define VYRE_IOQ_ERRNO_ENOSPC 28u
#define VYRE_IOQ_ERRNO_ERANGE 34u
#define VYRE_IOQ_ERRNO_ENODATA 61u
#define VYRE_IOQ_ERRNO_ETIMEDOUT 110u
#define VYRE_IOQ_ERRNO_ECANCELED 125u

/* The magic, as two words. */
#define VYRE_IOQ_MAGIC_0 0x45525956u
#define VYRE_IOQ_MAGIC_1 0x514f49u

/* A word: 32 bits, little-endian in shared memory, accessed whole and atomically. */
typedef unsigned int vyre_ioq_word;

/* The two images below are private copies. Shared memory is never accessed through them: copy word
 * by word, each by an atomic access. */

/* The words of a slot. In the bare layout it ends after `tag`. */
struct vyre_ioq_slot {
    vyre_ioq_word op;
    vyre_ioq_word source;
    vyre_ioq_word destination;
    vyre_ioq_word file_offset_low;
    vyre_ioq_word file_offset_high;
    vyre_ioq_word count;
    vyre_ioq_word status;
    vyre_ioq_word tag;
    vyre_ioq_word buffer_offset_low;
    vyre_ioq_word buffer_offset_high;
    vyre_ioq_word flags;
    vyre_ioq_word deadline;
    vyre_ioq_word reserved[4];
};

/* Line 0 of the header: what never changes. */
struct vyre_ioq_header {
    vyre_ioq_word magic[2];
    vyre_ioq_word major;
    vyre_ioq_word minor;
    vyre_ioq_word stride;
    vyre_ioq_word slots;
    vyre_ioq_word slots_offset;
    vyre_ioq_word features;
    vyre_ioq_word queue_id[2];
    vyre_ioq_word reserved[6];
};

#ifndef __CUDACC_RTC__
#include <stddef.h>
#ifdef __cplusplus
#define VYRE_IOQ_ASSERT(condition, text) static_assert(condition, text)
#define VYRE_IOQ_ALIGNOF(type) alignof(type)
#else
#define VYRE_IOQ_ASSERT(condition, text) _Static_assert(condition, text)
#define VYRE_IOQ_ALIGNOF(type) _Alignof(type)
#endif

VYRE_IOQ_ASSERT(sizeof(vyre_ioq_word) == 4, "a word has 32 bits");
VYRE_IOQ_ASSERT(sizeof(struct vyre_ioq_slot) == 64, "vyre_ioq_slot: ABI.md");
VYRE_IOQ_ASSERT(VYRE_IOQ_ALIGNOF(struct vyre_ioq_slot) == 4, "vyre_ioq_slot: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_slot, op) == 0, "vyre_ioq_slot: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_slot, source) == 4, "vyre_ioq_slot: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_slot, destination) == 8, "vyre_ioq_slot: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_slot, file_offset_low) == 12, "vyre_ioq_slot: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_slot, file_offset_high) == 16, "vyre_ioq_slot: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_slot, count) == 20, "vyre_ioq_slot: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_slot, status) == 24, "vyre_ioq_slot: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_slot, tag) == 28, "vyre_ioq_slot: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_slot, buffer_offset_low) == 32, "vyre_ioq_slot: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_slot, buffer_offset_high) == 36, "vyre_ioq_slot: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_slot, flags) == 40, "vyre_ioq_slot: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_slot, deadline) == 44, "vyre_ioq_slot: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_slot, reserved) == 48, "vyre_ioq_slot: ABI.md");
VYRE_IOQ_ASSERT(sizeof(struct vyre_ioq_header) == 64, "vyre_ioq_header: ABI.md");
VYRE_IOQ_ASSERT(VYRE_IOQ_ALIGNOF(struct vyre_ioq_header) == 4, "vyre_ioq_header: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_header, magic) == 0, "vyre_ioq_header: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_header, major) == 8, "vyre_ioq_header: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_header, minor) == 12, "vyre_ioq_header: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_header, stride) == 16, "vyre_ioq_header: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_header, slots) == 20, "vyre_ioq_header: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_header, slots_offset) == 24, "vyre_ioq_header: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_header, features) == 28, "vyre_ioq_header: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_header, queue_id) == 32, "vyre_ioq_header: ABI.md");
VYRE_IOQ_ASSERT(offsetof(struct vyre_ioq_header, reserved) == 40, "vyre_ioq_header: ABI.md");
#endif /* __CUDACC_RTC__ */

#endif /* VYRE_IOQ_ABI_H */
