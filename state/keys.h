// SPDX-License-Identifier: Apache-2.0
// The layout of keys, format 3 (STATE_FORMAT; stores of format 1, which had no groups and other sequences, and of
// format 2, where a group lay under a hash of what it is and an index led there, are refused). Every key begins
// with 11 bytes of the same shape; the prefix filter stands on these, or on what comes before the sub of a group:
//
//     +--------+------------------+-------------------------------+----- ...
//     | family | partition  be16  | id  be64                      | rest
//     +--------+------------------+-------------------------------+----- ...
//
//   family      id             rest                          value
//   META   00   0              name                          format, retention marks, progress
//   USER   10   user hash      sub, see below                partition of the event that made the user
//   ITEM   11   item hash      sub                           partition 0
//   GROUP  12   owner, 0: all  of u8 grouping u8            what a user, an item or all have under one value
//                              value be64, sub
//   NAME   20   hash           -                             text of a hashed value
//   GONE   21   item hash      -                             ts since when the item is gone, zigzag
//   ROW    30   feature id     -                             partition = table number; one embedding row
//   BLOB   31   hash of name   name, chunk be16              a piece of at most 1 MiB
//   LOG    80   commit number  part u8 (b j s d o x), n be16 what one commit appended
//
//   sub of USER, ITEM and GROUP:
//     'A'                       profile: ts and the caller's record
//     'C' hour be32 part be16   tiles of one hour of event time from one partition, all measures
//     'L' part be16             last ts and lifetime totals from one partition
//     'N'                       first ts, text
//     'S' number u8 slot u8     32 entries of one sequence, slot = (position / 32) % slots
//
//   The partition of a group is the user's, or 0. The groups of an owner are thus neighbours, and share blocks.
//
// Families below LOG are rewritten in place by later commits; LOG is only appended to, in order of commit, and
// its retention is a deletion of whole files. To change a layout, raise STATE_FORMAT and say here what became
// of the old one.
#ifndef FRESHET_STATE_KEYS_H
#define FRESHET_STATE_KEYS_H

#include <stddef.h>
#include <stdint.h>

enum key_family {
    KEY_META = 0x00,
    KEY_USER = 0x10,
    KEY_ITEM = 0x11,
    KEY_GROUP = 0x12,
    KEY_NAME = 0x20,
    KEY_GONE = 0x21,
    KEY_ROW = 0x30,
    KEY_BLOB = 0x31,
    KEY_LOG = 0x80,
};

enum {
    KEY_PREFIX = 11,
    KEY_GROUP_OWNER = KEY_PREFIX + 1, // up to whose groups they are
    KEY_GROUP_PREFIX = KEY_PREFIX + 10,
};

// What comes before the sub of a user, an item or a group.
static inline size_t key_prefix(uint8_t family)
{
    return family == KEY_GROUP ? KEY_GROUP_PREFIX : KEY_PREFIX;
}

enum key_sub {
    KEY_SUB_PROFILE = 'A',
    KEY_SUB_TILES = 'C',
    KEY_SUB_LAST = 'L',
    KEY_SUB_NAME = 'N',
    KEY_SUB_SEQUENCE = 'S',
};

enum key_log {
    KEY_LOG_BODIES = 'b',
    KEY_LOG_DEDUPE = 'd',
    KEY_LOG_JOINER = 'j',
    KEY_LOG_ORDER = 'o',
    KEY_LOG_SAMPLES = 's',
    KEY_LOG_OUTBOX = 'x',
};

#endif
