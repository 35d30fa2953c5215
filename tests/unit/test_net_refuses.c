// SPDX-License-Identifier: Apache-2.0
// What net_new refuses, and how it says so.
#include "tests/unit/net_build.h"

TestSuite(net_refuses, .init = gemm_setup);

// ---- what net_new refuses ---------------------------------------------------------------------------------

static void refused(const struct build *b, uint32_t block, const char *message)
{
    struct net *net = (struct net *)b;
    uint32_t at = 77;
    struct err err = {0};
    cr_assert_eq(net_new(&b->spec, &net, &at, &err), -1, "should be refused: %s", message);
    cr_assert_eq(net, (const struct net *)b);
    cr_assert_eq(err.code, ERR_CONFIG);
    cr_assert_str_eq(err.message, message);
    cr_assert_eq(at, block, "%u", at);
}

Test(net_refuses, refuses_names_that_are_not_there)
{
    struct build b;
    build_mlp(&b, 4);
    snprintf(b.of[1][2], NET_NAME, "itme");
    refused(&b, 1, "block \"bottom\": no input or block \"itme\"; did you mean \"item\"?");
    snprintf(b.of[1][2], NET_NAME, "something_else");
    refused(&b, 1,
            "block \"bottom\": no input or block \"something_else\"; "
            "there are: user, item, clicks, age, ctr, pooled");
    build_mlp(&b, 4);
    snprintf(b.heads[1].of, NET_NAME, "botom");
    refused(&b, 3, "head \"like\": no input or block \"botom\"; did you mean \"bottom\"?");
    build_towers(&b, 4);
    snprintf(b.of[1][0], NET_NAME, "both");
    refused(&b, 1, "block \"shared\": block \"both\" must stand before it");
    snprintf(b.of[1][0], NET_NAME, "shared");
    refused(&b, 1, "block \"shared\": block \"shared\" must stand before it");
}

Test(net_refuses, refuses_names_that_clash)
{
    struct build b;
    build_mlp(&b, 4);
    snprintf(b.inputs[2].name, NET_NAME, "user");
    refused(&b, UINT32_MAX, "two inputs are named \"user\"");
    build_mlp(&b, 4);
    snprintf(b.blocks[1].name, NET_NAME, "age");
    refused(&b, 1, "block \"age\": an input or an earlier block has this name");
    build_mlp(&b, 4);
    snprintf(b.heads[1].name, NET_NAME, "click");
    refused(&b, 3, "two heads are named \"click\"");
    build_mlp(&b, 4);
    snprintf(b.blocks[1].name, NET_NAME, "click.0");
    refused(&b, 1, "block \"click.0\": its name must have no dot");
}

Test(net_refuses, refuses_shapes_that_do_not_fit)
{
    struct build b;
    build_mlp(&b, 4);
    snprintf(b.of[1][3], NET_NAME, "clicks");
    refused(&b, 1,
            "block \"bottom\": \"clicks\" is a sequence and cannot be concatenated: pool it with mean first");
    build_mlp(&b, 4);
    snprintf(b.heads[0].of, NET_NAME, "clicks");
    refused(&b, 2, "head \"click\": \"clicks\" is a sequence: pool it with mean first");
    build_mlp(&b, 4);
    snprintf(b.of[0][0], NET_NAME, "user");
    refused(&b, 0, "block \"pooled\": mean takes a sequence, and \"user\" is none");
    build_mlp(&b, 4);
    b.blocks[1].options[0].dims[1] = 10000;
    refused(&b, 1, "block \"bottom\": mlp: 10000 is not 1 to 8192");
    b.blocks[1].options[0].dims[0] = 0;
    refused(&b, 1, "block \"bottom\": mlp takes 1 to 8 counts from 1 on");
    b.blocks[1].options[0] = b.blocks[1].options[1];
    b.blocks[1].options[1].name = NULL;
    refused(&b, 1, "block \"bottom\": mlp needs \"mlp\"");
    b.blocks[1].n_of = 0;
    refused(&b, 1, "block \"bottom\" must be of 1 to 256 names, not 0");
    build_mlp(&b, 4);
    b.inputs[0].dim = 0;
    refused(&b, UINT32_MAX, "input \"user\" cannot be 0 wide");
}

Test(net_refuses, refuses_fields_that_do_not_fit)
{
    static const struct {
        const char *kind, *of, *message;
        struct layer_value option;
    } mistakes[] = {
        {"bilinear",
         "user age",
         "\"user\" is 8 wide and \"age\" 1: bilinear takes fields of one width; name those "
         "in of, or with: {fields: [...]} of a preset",
         {.name = NULL}},
        {"bilinear", "user", "bilinear takes 2 or more fields", {.name = NULL}},
        {"bilinear",
         "user item",
         "pairs: \"itme\" is none of its fields; did you mean \"item\"?",
         {.name = "pairs", .text = "user itme"}},
        {"bilinear", "user item", "pairs takes names in twos", {.name = "pairs", .text = "user item user"}},
        {"senet", "user", "senet takes 2 or more fields", {.name = NULL}},
        {"fm",
         "user age",
         "\"user\" is 8 wide and \"age\" 1: fm takes fields of one width; name those in of, or "
         "with: {fields: [...]} of a preset",
         {.name = NULL}},
        {"dcn_v2",
         "user",
         "rank is 8, but what it crosses is 8 wide: leave it out for the full weights",
         {.name = "rank", .number = 8}},
    };
    for (uint32_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        struct build b;
        char message[300];
        build_init(&b, 4);
        add_inputs(&b);
        add_block(&b, "x", mistakes[i].kind, mistakes[i].of, NULL, "");
        if (strcmp(mistakes[i].kind, "bilinear") == 0)
            add_option(&b, (struct layer_value){.name = "bilinear", .text = "all"});
        if (strcmp(mistakes[i].kind, "dcn_v2") == 0)
            add_option(&b, (struct layer_value){.name = "dcn_v2", .number = 1});
        if (mistakes[i].option.name != NULL)
            add_option(&b, mistakes[i].option);
        add_head(&b, "click", "x", 1);
        snprintf(message, sizeof message, "block \"x\": %s", mistakes[i].message);
        refused(&b, 1, message);
    }
}

Test(net_refuses, refuses_kinds_that_are_not_there)
{
    struct build b;
    build_mlp(&b, 4);
    snprintf(b.blocks[1].kind, NET_NAME, "mpl");
    refused(&b, 1, "block \"bottom\": no layer kind \"mpl\"; did you mean \"mlp\"?");
    build_mlp(&b, 4);
    b.blocks[1].options[1].text = "gelu";
    refused(&b, 1,
            "block \"bottom\": activation is \"gelu\", but must be one of relu|none|sigmoid|tanh|prelu|dice");
    b.blocks[1].options[1].name = "activaton";
    refused(&b, 1, "block \"bottom\": mlp has no option \"activaton\"; did you mean \"activation\"?");
    b.blocks[1].options[1].name = "mlp";
    refused(&b, 1, "block \"bottom\": \"mlp\" is given twice");
    build_mlp(&b, 4);
    snprintf(b.heads[0].loss, sizeof b.heads[0].loss, "loglos");
    refused(&b, 2, "head \"click\": no loss \"loglos\"; did you mean \"logloss\"?");
    build_mlp(&b, 4);
    b.heads[1].weight = NAN;
    refused(&b, 3, "head \"like\": its weight must be a number from 0 on");
    build_mlp(&b, 4);
    b.spec.n_heads = 0;
    refused(&b, UINT32_MAX, "the net has no head");
    build_mlp(&b, 0);
    refused(&b, UINT32_MAX, "a batch of 0 samples is not possible");
}

Test(net_refuses, refuses_entries_that_are_not_the_same)
{
    struct build b;
    build_init(&b, 4);
    add_inputs(&b);
    add_input(&b, "ages", NET_INPUT_SEQUENCE, 0, 8);
    add_block(&b, "both", "concat", "clicks ages", NULL, "");
    add_block(&b, "mean", "mean", "both", NULL, "");
    add_head(&b, "click", "mean", 1);
    refused(&b, 1, "block \"both\": \"clicks\" and \"ages\" are not sequences of the same entries");
    snprintf(b.inputs[5].offsets_as, NET_NAME, "user");
    refused(&b, UINT32_MAX, "input \"ages\": \"user\" is no sequence that stands before it");
    snprintf(b.inputs[5].offsets_as, NET_NAME, "clicks");
    b.inputs[5].max_len = 7;
    refused(&b, UINT32_MAX, "inputs \"clicks\" and \"ages\": 6 and 7 entries at most, but of the same");
    b.inputs[5].max_len = 6;
    net_free(build_net(&b));
}

Test(net_refuses, refuses_towers_of_another_side)
{
    struct build b;
    build_sides(&b);
    add_block(&b, "tower", "mlp", "user pooled age", DIMS(4), "");
    b.blocks[2].side = NET_USER;
    net_free(build_net(&b));
    b.blocks[2].side = NET_ITEM;
    refused(
        &b, 2,
        "block \"tower\" is a tower of the item's side, but has something of another in it: tower <- user");
    b.blocks[2].side = NET_CROSS;
    refused(&b, 2, "block \"tower\": a tower is of the user or of the item");
    b.blocks[2].side = NET_USER;
    snprintf(b.of[2][1], NET_NAME, "bottom");
    refused(&b, 2,
            "block \"tower\" is a tower of the user's side, but has something of another in it: "
            "tower <- bottom <- item");
}
