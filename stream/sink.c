// SPDX-License-Identifier: Apache-2.0
// The two kinds of sink behind one interface, and the one promise that is checked for both: sequences
// increase, and after a reset begin again above what was delivered.
#include "stream/sink.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "stream/sink_impl.h"

enum { SINK_MAGIC = 0x534e4b31 };

struct sink {
    uint32_t magic;
    const struct sink_ops *ops;
    void *impl;
    uint64_t last;      // sequence sent last
    uint64_t delivered; // as sink_poll said last
};

struct sink *sink_new(const struct sink_ops *ops, void *impl)
{
    struct sink *s = mem_zalloc(sizeof *s);
    s->magic = SINK_MAGIC;
    s->ops = ops;
    s->impl = impl;
    return s;
}

void sink_free(struct sink *s)
{
    if (s == NULL)
        return;
    assert(s->magic == SINK_MAGIC);
    s->ops->free(s->impl);
    s->magic = 0;
    free(s);
}

int sink_send(struct sink *s, const struct sink_message *message, struct err *err)
{
    assert(s->magic == SINK_MAGIC);
    assert(message->sequence > s->last);
    if (s->ops->send(s->impl, message, err) < 0)
        return -1;
    s->last = message->sequence;
    return 0;
}

uint64_t sink_poll(struct sink *s)
{
    assert(s->magic == SINK_MAGIC);
    uint64_t delivered = s->ops->poll(s->impl);
    assert(delivered >= s->delivered && delivered <= s->last);
    s->delivered = delivered;
    return delivered;
}

bool sink_reset(struct sink *s)
{
    assert(s->magic == SINK_MAGIC);
    bool reset = s->ops->reset(s->impl);
    if (reset)
        s->last = s->delivered;
    return reset;
}

uint32_t sink_under_way(const struct sink *s)
{
    assert(s->magic == SINK_MAGIC);
    return s->ops->under_way(s->impl);
}

int sink_fd(const struct sink *s)
{
    assert(s->magic == SINK_MAGIC);
    return s->ops->fd(s->impl);
}

void sink_error(const struct sink *s, struct err *ret_err)
{
    assert(s->magic == SINK_MAGIC);
    s->ops->error(s->impl, ret_err);
}
