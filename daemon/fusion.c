// SPDX-License-Identifier: Apache-2.0
// Recursive descent into a postfix program, run on a small stack:
//
//     sum      product { (+|-) product }
//     product  unary { (*|/) unary }
//     unary    - unary | power
//     power    atom [ ^ unary ]
//     atom     number | head | function ( sum { , sum } ) | ( sum )
//
// Nesting and the length are bounded when it is parsed; the stack holds no more values than there are ops.
#include "daemon/fusion.h"

#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"

enum op_kind {
    OP_NUMBER,
    OP_HEAD,
    OP_ADD,
    OP_SUBTRACT,
    OP_MULTIPLY,
    OP_DIVIDE,
    OP_POWER,
    OP_MIN,
    OP_MAX,
    OP_NEGATE, // from here on of one value
    OP_LOG,
    OP_EXP,
};

struct op {
    enum op_kind kind;
    uint32_t head;
    double number;
};

struct fusion {
    uint32_t n;
    struct op ops[FUSION_OPS_MAX];
};

static const struct function {
    const char *name;
    enum op_kind kind;
} functions[] = {{"log", OP_LOG}, {"exp", OP_EXP}, {"min", OP_MIN}, {"max", OP_MAX}, {0}};

struct parser {
    const char *text, *at;
    uint32_t n;
    const char *const *names;
    uint32_t depth;
    struct fusion *to;
    struct err *err;
};

static int parse_sum(struct parser *p);

// ---- errors and tokens ------------------------------------------------------------------------------------

static int fail_at(const struct parser *p, const char *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int fail_at(const struct parser *p, const char *at, const char *fmt, ...)
{
    char text[600];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return err_set(p->err, ERR_CONFIG, "column %td: %s", at - p->text + 1, text);
}

static char peek(struct parser *p)
{
    while (isspace((unsigned char)*p->at))
        p->at++;
    return *p->at;
}

static bool take(struct parser *p, char c)
{
    if (peek(p) != c)
        return false;
    p->at++;
    return true;
}

static int put(struct parser *p, struct op op)
{
    if (p->to->n == FUSION_OPS_MAX)
        return fail_at(p, p->at, "it has more than %d parts", FUSION_OPS_MAX);
    p->to->ops[p->to->n++] = op;
    return 0;
}

// ---- the grammar ------------------------------------------------------------------------------------------

static int name_fail(const struct parser *p, const char *at, size_t len)
{
    char name[80];
    struct nearest near;
    snprintf(name, sizeof name, "%.*s", (int)(len < 60 ? len : 60), at);
    nearest_init(&near, name);
    for (uint32_t i = 0; i < p->n; i++)
        nearest_put(&near, p->names[i]);
    for (const struct function *f = functions; f->name != NULL; f++)
        nearest_put(&near, f->name);
    return fail_at(p, at, "no head or function \"%s\"%s", name, nearest_hint(&near));
}

static int parse_closed(struct parser *p, const char *open)
{
    if (take(p, ')'))
        return 0;
    return fail_at(p, p->at, "\")\" is missing, for that of column %td", open - p->text + 1);
}

// Its name is read.
static int parse_call(struct parser *p, const struct function *f)
{
    const char *open = p->at;
    uint32_t given = 1;
    p->at++;
    if (parse_sum(p) < 0)
        return -1;
    for (; take(p, ','); given++)
        if (parse_sum(p) < 0 || put(p, (struct op){.kind = f->kind}) < 0)
            return -1;
    if (f->kind >= OP_NEGATE ? given != 1 : given < 2)
        return fail_at(p, open, "%s takes %s, not %u", f->name,
                       f->kind >= OP_NEGATE ? "one value" : "two or more", given);
    if (f->kind >= OP_NEGATE && put(p, (struct op){.kind = f->kind}) < 0)
        return -1;
    return parse_closed(p, open);
}

static int parse_name(struct parser *p)
{
    const char *at = p->at;
    while (isalnum((unsigned char)*p->at) || *p->at == '_')
        p->at++;
    const size_t len = (size_t)(p->at - at);
    const bool call = peek(p) == '(';
    for (const struct function *f = functions; call && f->name != NULL; f++)
        if (strlen(f->name) == len && memcmp(f->name, at, len) == 0)
            return parse_call(p, f);
    for (uint32_t i = 0; i < p->n && !call; i++)
        if (strlen(p->names[i]) == len && memcmp(p->names[i], at, len) == 0)
            return put(p, (struct op){.kind = OP_HEAD, .head = i});
    return name_fail(p, at, len);
}

static int parse_atom(struct parser *p)
{
    const char c = peek(p), *open = p->at;
    if (isalpha((unsigned char)c) || c == '_')
        return parse_name(p);
    if (isdigit((unsigned char)c) || c == '.') {
        char *end;
        const double x = strtod(p->at, &end);
        if (end == p->at || !isfinite(x))
            return fail_at(p, p->at, "this is no number");
        p->at = end;
        return put(p, (struct op){.kind = OP_NUMBER, .number = x});
    }
    if (!take(p, '('))
        return c == '\0' ? fail_at(p, p->at, "it ends where a value is expected")
                         : fail_at(p, p->at, "\"%c\" where a value is expected", c);
    return parse_sum(p) < 0 ? -1 : parse_closed(p, open);
}

static int parse_unary(struct parser *p)
{
    int result = 0;
    if (++p->depth > 3 * FUSION_DEPTH_MAX)
        return fail_at(p, p->at, "it is nested too deeply");
    if (take(p, '-')) {
        if (parse_unary(p) < 0 || put(p, (struct op){.kind = OP_NEGATE}) < 0)
            result = -1;
    } else {
        result = parse_atom(p);
        if (result == 0 && take(p, '^') && (parse_unary(p) < 0 || put(p, (struct op){.kind = OP_POWER}) < 0))
            result = -1;
    }
    p->depth--;
    return result;
}

static int parse_product(struct parser *p)
{
    if (parse_unary(p) < 0)
        return -1;
    for (char c; (c = peek(p)) == '*' || c == '/';) {
        p->at++;
        if (parse_unary(p) < 0 || put(p, (struct op){.kind = c == '*' ? OP_MULTIPLY : OP_DIVIDE}) < 0)
            return -1;
    }
    return 0;
}

static int parse_sum(struct parser *p)
{
    if (parse_product(p) < 0)
        return -1;
    for (char c; (c = peek(p)) == '+' || c == '-';) {
        p->at++;
        if (parse_product(p) < 0 || put(p, (struct op){.kind = c == '+' ? OP_ADD : OP_SUBTRACT}) < 0)
            return -1;
    }
    return 0;
}

int fusion_parse(struct arena *arena, const char *text, uint32_t n, const char *const *names,
                 const struct fusion **ret_fusion, struct err *err)
{
    struct fusion *f = ARENA_ARRAY(arena, struct fusion, 1);
    *f = (struct fusion){0};
    struct parser p = {.text = text, .at = text, .n = n, .names = names, .to = f, .err = err};
    if (parse_sum(&p) < 0)
        return -1;
    if (peek(&p) != '\0')
        return fail_at(&p, p.at, "\"%c\" where an operator or the end is expected", *p.at);
    *ret_fusion = f;
    return 0;
}

bool fusion_reads(const struct fusion *f, uint32_t head)
{
    for (uint32_t i = 0; i < f->n; i++)
        if (f->ops[i].kind == OP_HEAD && f->ops[i].head == head)
            return true;
    return false;
}

// ---- running ----------------------------------------------------------------------------------------------

static double apply(enum op_kind kind, double a, double b)
{
    switch (kind) {
    case OP_ADD:
        return a + b;
    case OP_SUBTRACT:
        return a - b;
    case OP_MULTIPLY:
        return a * b;
    case OP_DIVIDE:
        return a / b;
    case OP_POWER:
        return pow(a, b);
    case OP_MIN:
        return b < a ? b : a;
    case OP_MAX:
        return b > a ? b : a;
    case OP_NEGATE:
        return -a;
    case OP_LOG:
        return log(a);
    case OP_EXP:
        return exp(a);
    case OP_NUMBER:
    case OP_HEAD:
        break;
    }
    return a;
}

double fusion_value(const struct fusion *f, const double *heads)
{
    double stack[FUSION_OPS_MAX];
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->n; i++) {
        const struct op *op = &f->ops[i];
        if (op->kind == OP_NUMBER || op->kind == OP_HEAD) {
            stack[n++] = op->kind == OP_NUMBER ? op->number : heads[op->head];
        } else if (op->kind >= OP_NEGATE) {
            stack[n - 1] = apply(op->kind, stack[n - 1], 0);
        } else {
            n--;
            stack[n - 1] = apply(op->kind, stack[n - 1], stack[n]);
        }
    }
    assert(n == 1);
    return stack[0];
}
