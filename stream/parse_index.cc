// SPDX-License-Identifier: Apache-2.0
// The first stage of simdjson (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", VLDB J. 2019): it
// finds the beginnings of all tokens 64 bytes at a time, and validates UTF-8 on the way. What stands behind
// is chosen for the processor at run time. Only this stage is used: the second one would copy every string
// into a tape and lose where a value stands in the text, and the on-demand reader leaves unread parts
// unchecked.

#include <charconv>
#include <memory>

#include <simdjson.h>

extern "C" {
#include "stream/parse.h"
}

struct parse_index {
    std::unique_ptr<simdjson::internal::dom_parser_implementation> stage;
};

struct parse_index *parse_index_new(size_t longest)
{
    auto *x = new (std::nothrow) parse_index;
    if (x == nullptr)
        return nullptr;
    auto wrong = simdjson::get_active_implementation()->create_dom_parser_implementation(longest, PARSE_DEPTH,
                                                                                         x->stage);
    if (wrong) {
        delete x;
        return nullptr;
    }
    return x;
}

void parse_index_free(struct parse_index *x)
{
    delete x;
}

const char *parse_index_build(struct parse_index *x, struct str text, const uint32_t **ret_at,
                              uint32_t *ret_n)
{
    auto wrong =
        x->stage->stage1(reinterpret_cast<const uint8_t *>(text.s), text.len, simdjson::stage1_mode::regular);
    switch (wrong) {
    case simdjson::SUCCESS:
        *ret_at = x->stage->structural_indexes.get();
        *ret_n = x->stage->n_structural_indexes;
        return nullptr;
    case simdjson::UTF8_ERROR:
        return "invalid UTF-8";
    case simdjson::UNCLOSED_STRING:
        return "a string does not end";
    case simdjson::UNESCAPED_CHARS:
        return "a control character in a string";
    case simdjson::EMPTY:
        return "empty";
    default:
        return simdjson::error_message(wrong);
    }
}

bool parse_utf8(struct str text)
{
    return simdjson::validate_utf8(text.s, text.len);
}

bool parse_double(struct str text, double *ret_value)
{
    double value = 0;
    auto end = std::from_chars(text.s, text.s + text.len, value);
    if (end.ec != std::errc() || end.ptr != text.s + text.len)
        return false;
    *ret_value = value;
    return true;
}
