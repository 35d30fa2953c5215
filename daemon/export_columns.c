// SPDX-License-Identifier: Apache-2.0
// The sample log as the model sees it: `export samples --format safetensors` gives the columns that the net reads, its
// labels and weights, for who trains the same net elsewhere; `export predictions` what the model of the state predicts
// of each sample, as JSONL. Both take the path of an update (features_decode, targets_of, columns_put).
//
// The tensors, n samples in order of the log:
//
//     sample, seen, emitted                  I64 (n)       number, event time in s, event time in ms when it left
//     input.<name>.ids                       I64 (n)       feature ids, as in tables.<name>.ids of export model
//     input.<name>.ids, input.<name>.offsets I64 (N), (n + 1)   of a sequence: entries offsets[i] .. offsets[i + 1]
//     input.<name>.number                    F32 (n)
//     label.<head>, weight.<head>            F32 (n)       weight 0: the head learns nothing of it; see targets.c
//
// Memory: the whole export, since tensors are written one after the other.
#include <stdlib.h>

#include "base/mem.h"
#include "daemon/export.h"
#include "daemon/targets.h"
#include "models/safetensors.h"

enum { COLUMNS_AT_ONCE = 1024, COLUMN_NAME = 2 * NET_NAME };

// ---- columns ----------------------------------------------------------------------------------------------

struct column_out {
    char name[COLUMN_NAME];
    enum safetensor_type type;
    struct buf data;
};

struct columns_out {
    struct export *x;
    struct features_net net;
    struct columns *columns;
    uint32_t waiting; // samples in `columns`
    uint64_t n;
    uint32_t n_out;
    struct column_out *out; // sample, seen, emitted; ids and offsets by input; then what is F32
};

static struct column_out *column_add(struct columns_out *c, const char *prefix, const char *name,
                                     const char *suffix, enum safetensor_type type)
{
    struct column_out *o = &c->out[c->n_out++];
    snprintf(o->name, sizeof o->name, "%s%.60s%s", prefix, name, suffix);
    o->type = type;
    return o;
}

// I64 first, so that all data are aligned.
static void columns_out_init(struct columns_out *c)
{
    const struct net_spec *spec = &c->net.spec;
    c->out = mem_array(3 + 2 * (size_t)spec->n_inputs + 2 * (size_t)spec->n_heads, sizeof *c->out);
    column_add(c, "sample", "", "", SAFETENSOR_I64);
    column_add(c, "seen", "", "", SAFETENSOR_I64);
    column_add(c, "emitted", "", "", SAFETENSOR_I64);
    for (uint32_t i = 0; i < spec->n_inputs; i++) {
        if (spec->inputs[i].kind != NET_INPUT_NUMBER)
            column_add(c, "input.", spec->inputs[i].name, ".ids", SAFETENSOR_I64);
        if (spec->inputs[i].kind == NET_INPUT_SEQUENCE)
            buf_put_u64(&column_add(c, "input.", spec->inputs[i].name, ".offsets", SAFETENSOR_I64)->data, 0);
    }
    for (uint32_t i = 0; i < spec->n_inputs; i++)
        if (spec->inputs[i].kind == NET_INPUT_NUMBER)
            column_add(c, "input.", spec->inputs[i].name, ".number", SAFETENSOR_F32);
    for (uint32_t h = 0; h < spec->n_heads; h++) {
        column_add(c, "label.", spec->heads[h].name, "", SAFETENSOR_F32);
        column_add(c, "weight.", spec->heads[h].name, "", SAFETENSOR_F32);
    }
}

static void offsets_put(struct buf *to, const uint32_t *offsets, uint32_t n, uint64_t before)
{
    for (uint32_t i = 1; i <= n; i++)
        buf_put_u64(to, before + offsets[i]);
}

// `o` is the first column of ids; returns the one behind them.
static struct column_out *ids_put(struct columns_out *c, const struct model_samples *s, struct column_out *o)
{
    const struct net_spec *spec = &c->net.spec;
    for (uint32_t i = 0; i < spec->n_inputs; i++) {
        const bool sequence = spec->inputs[i].kind == NET_INPUT_SEQUENCE;
        if (spec->inputs[i].kind == NET_INPUT_NUMBER)
            continue;
        const uint64_t before = o->data.len / sizeof(uint64_t);
        buf_put(&o++->data, s->ids[i], (sequence ? s->offsets[i][s->n] : s->n) * sizeof(uint64_t));
        if (sequence)
            offsets_put(&o++->data, s->offsets[i], s->n, before);
    }
    return o;
}

static void columns_flush(struct columns_out *c)
{
    const struct model_samples *s = columns_samples(c->columns);
    struct column_out *o = ids_put(c, s, c->out + 3);
    for (uint32_t i = 0; i < c->net.spec.n_inputs; i++)
        if (c->net.spec.inputs[i].kind == NET_INPUT_NUMBER)
            buf_put(&o++->data, s->numbers[i], s->n * sizeof(float));
    for (uint32_t h = 0; h < c->net.spec.n_heads; h++) {
        buf_put(&o++->data, s->labels[h], s->n * sizeof(float));
        for (uint32_t i = 0; i < s->n; i++) {
            const float weight = s->weights != NULL ? s->weights[h][i] : 1;
            buf_put(&o->data, &weight, sizeof weight);
        }
        o++;
    }
    columns_clear(c->columns);
    c->n += c->waiting;
    c->waiting = 0;
}

static int columns_row(void *context, const struct sample *s, const struct feature_row *row, struct err *err)
{
    (void)err;
    struct columns_out *c = context;
    float labels[CONFIG_HEADS_MAX], weights[CONFIG_HEADS_MAX];
    targets_of(c->x->engine->config, s, row, labels, weights);
    columns_put(c->columns, row, s->impression_ts, labels, weights);
    buf_put_u64(&c->out[0].data, s->seq);
    buf_put_u64(&c->out[1].data, (uint64_t)(s->impression_ts / 1000));
    buf_put_u64(&c->out[2].data, (uint64_t)s->emitted_ts);
    if (++c->waiting == COLUMNS_AT_ONCE)
        columns_flush(c);
    return 0;
}

static void columns_write(const struct columns_out *c)
{
    struct buf header = {0};
    struct safetensor *tensors = mem_array(c->n_out, sizeof *tensors);
    bool ok = true;
    for (uint32_t i = 0; i < c->n_out; i++) {
        const size_t width = c->out[i].type == SAFETENSOR_I64 ? sizeof(int64_t) : sizeof(float);
        tensors[i] = (struct safetensor){.name = c->out[i].name,
                                         .type = c->out[i].type,
                                         .n_dims = 1,
                                         .shape = {c->out[i].data.len / width}};
    }
    safetensors_put_header(&header, NULL, 0, tensors, c->n_out);
    ok = fwrite(header.data, 1, header.len, c->x->to) == header.len;
    for (uint32_t i = 0; i < c->n_out && ok; i++)
        ok = c->out[i].data.len == 0 ||
             fwrite(c->out[i].data.data, 1, c->out[i].data.len, c->x->to) == c->out[i].data.len;
    c->x->write_failed |= !ok;
    free(tensors);
    buf_done(&header);
}

int export_columns(struct export *x, struct err *err)
{
    struct columns_out c = {.x = x, .columns = columns_new(x->engine->config)};
    features_net_new(x->engine->config, &c.net);
    columns_out_init(&c);
    const int result = export_samples_each(x->engine, &x->range, columns_row, &c, err);
    if (result == 0) {
        columns_flush(&c);
        columns_write(&c);
    }
    for (uint32_t i = 0; i < c.n_out; i++)
        buf_done(&c.out[i].data);
    free(c.out);
    features_net_done(&c.net);
    columns_free(c.columns);
    return result;
}

// ---- predictions ------------------------------------------------------------------------------------------

struct predictions {
    struct export *x;
    struct columns *columns;
    uint32_t n_heads, n;
    struct buf lines; // what of each line comes before the predictions
    size_t ends[COLUMNS_AT_ONCE];
    float *p[CONFIG_HEADS_MAX];
};

static void predictions_flush(struct predictions *p)
{
    const struct config *config = p->x->engine->config;
    size_t at = 0;
    updater_predict(p->x->engine->updater, columns_samples(p->columns), NULL, p->p);
    for (uint32_t i = 0; i < p->n; at = p->ends[i++]) {
        buf_put(&p->x->out, p->lines.data + at, p->ends[i] - at);
        struct json j = json_to(&p->x->out);
        json_object(&j);
        for (uint32_t h = 0; h < p->n_heads; h++) {
            json_key(&j, config->model.heads[h].name);
            json_float(&j, p->p[h][i]);
        }
        json_end(&j);
        buf_put_u8(&p->x->out, '}');
        export_end(p->x);
    }
    columns_clear(p->columns);
    buf_clear(&p->lines);
    p->n = 0;
}

static int predictions_row(void *context, const struct sample *s, const struct feature_row *row,
                           struct err *err)
{
    struct predictions *p = context;
    struct json j = json_to(&p->lines);
    json_object(&j);
    json_key(&j, "sample");
    json_uint(&j, s->seq);
    json_key(&j, "user_id");
    json_str(&j, row->user_text);
    json_key(&j, "item_id");
    json_str(&j, row->item_text);
    json_key(&j, "predictions");
    p->ends[p->n++] = p->lines.len;
    columns_put(p->columns, row, s->impression_ts, NULL, NULL);
    if (p->n == COLUMNS_AT_ONCE)
        predictions_flush(p);
    return p->x->write_failed ? err_errno(err, "writing the predictions") : 0;
}

int export_predictions(struct export *x, struct err *err)
{
    struct predictions p = {
        .x = x, .columns = columns_new(x->engine->config), .n_heads = x->engine->config->model.n_heads};
    for (uint32_t h = 0; h < p.n_heads; h++)
        p.p[h] = mem_array(COLUMNS_AT_ONCE, sizeof *p.p[h]);
    const int result = export_samples_each(x->engine, &x->range, predictions_row, &p, err);
    if (result == 0)
        predictions_flush(&p);
    for (uint32_t h = 0; h < p.n_heads; h++)
        free(p.p[h]);
    buf_done(&p.lines);
    columns_free(p.columns);
    return result;
}
