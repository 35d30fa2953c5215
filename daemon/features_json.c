// SPDX-License-Identifier: Apache-2.0
// Values as JSON, and the canonical bytes of a body for digests.
#include "base/hash.h"
#include "daemon/features_impl.h"

struct str features_text(struct state *s, uint64_t id, uint16_t partitions)
{
    struct entity *e = NULL;
    struct err err;
    // Items first: most that is asked for are those of a sequence, and they are in memory; a name is a read.
    if (state_entity(s, ENTITY_ITEM, 0, id, (struct str){0}, &e, &err) == 0 && e != NULL)
        return entity_text(e);
    struct str text = state_name(s, id);
    if (text.len > 0)
        return text;
    if (partitions > 0 && state_user_find(s, id, partitions, &e, &err) == 0 && e != NULL)
        return entity_text(e);
    return (struct str){"", 0};
}

// The empty text has an id as any other; a list may hold it.
bool features_text_known(uint64_t id, struct str text)
{
    return text.len > 0 || id == hash_id((struct str){"", 0});
}

void features_text_json(struct state *s, uint64_t id, struct json *j)
{
    struct str text = id != 0 ? features_text(s, id, 0) : (struct str){"", 0};
    if (features_text_known(id, text))
        json_str(j, text);
    else
        json_null(j);
}

static void sequence_json(struct state *s, const struct feature_value *v, struct json *j)
{
    json_array(j);
    for (uint32_t k = 0; k < v->n; k++) {
        if (v->times != NULL) {
            json_uint(j, feature_value_interval(v, k));
            continue;
        }
        features_text_json(s, feature_value_id(v, k), j); // null: of an entry whose item had no category, say
    }
    json_end(j);
}

static void value_json(const struct features *f, struct state *s, const struct feature_row *row, uint32_t i,
                       struct json *j)
{
    const struct feature_value *v = &row->values[i];
    if (v->type == FEATURE_MISSING) {
        json_null(j);
    } else if (v->type == FEATURE_NUMBER || v->fraction) {
        json_double(j, v->number);
    } else if (v->type == FEATURE_SEQUENCE) {
        sequence_json(s, v, j);
    } else if (v->cross) {
        json_array(j);
        value_json(f, s, row, f->config->features[i].cross[0], j);
        value_json(f, s, row, f->config->features[i].cross[1], j);
        json_end(j);
    } else if (v->text.s != NULL) {
        json_str(j, v->text);
    } else {
        json_int(j, v->integer);
    }
}

void features_value_json(const struct features *f, struct state *s, const struct feature_row *row, uint32_t i,
                         struct json *j)
{
    value_json(f, s, row, i, j);
}

void features_json(const struct features *f, struct state *s, const struct feature_row *row, struct json *j)
{
    json_object(j);
    for (uint32_t i = 0; i < f->config->n_features; i++) {
        json_key(j, f->config->features[i].name);
        value_json(f, s, row, i, j);
    }
    json_end(j);
}

static void column_canonical(const uint8_t *column, uint32_t n, struct buf *to)
{
    buf_put_u32(to, column != NULL ? n : 0);
    if (column != NULL)
        buf_put(to, column, 8 * (size_t)n);
}

void features_canonical(void *features, const struct sample *sample, struct str segment, struct buf *to)
{
    const struct features *f = features;
    struct feature_row row;
    struct value values[READINGS_MAX];
    if (features_body_decode(f, segment, sample->body.user_at, sample->body.item_at, &row, values) != 0)
        return;
    buf_put_str(to, row.user_text);
    buf_put_str(to, row.request_text);
    buf_put_str(to, row.item_text);
    buf_put_zigzag(to, row.position);
    for (uint32_t i = 0; i < f->n_readings; i++) {
        const struct value *v = &values[i];
        buf_put_u8(to, (uint8_t)v->type);
        buf_put_u64(to, v->count);
        buf_put_f64(to, v->number);
        buf_put_str(to, v->text);
        column_canonical(v->ids, v->n, to);
        column_canonical(v->times, v->n, to);
        column_canonical(v->category, v->n, to);
        column_canonical(v->author, v->n, to);
    }
}
