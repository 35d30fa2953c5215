// SPDX-License-Identifier: Apache-2.0
// What a kind of sink (stream/sink_kafka.c, stream/sink_file.c) gives to the generic part (stream/sink.c).
// Internal to stream/. Each of the operations is the function of stream/sink.h of the same name.
#ifndef FRESHET_STREAM_SINK_IMPL_H
#define FRESHET_STREAM_SINK_IMPL_H

#include "stream/sink.h"

struct sink_ops {
    int (*send)(void *impl, const struct sink_message *message, struct err *err);
    uint64_t (*poll)(void *impl);
    bool (*reset)(void *impl);
    uint32_t (*under_way)(const void *impl);
    int (*fd)(const void *impl);
    void (*error)(const void *impl, struct err *ret_err);
    void (*free)(void *impl);
};

struct sink *sink_new(const struct sink_ops *ops, void *impl); // takes over impl

#endif
