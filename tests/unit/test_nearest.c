// SPDX-License-Identifier: Apache-2.0
// Promised: the distance of the recursive definition; the nearest name where one is near, else the list.
#include <criterion/criterion.h>
#include <string.h>

#include "base/nearest.h"
#include "base/rng.h"

// The definition, word by word: what the last letters cost, by recursion.
static uint32_t distance_naive(const char *a, size_t n, const char *b, size_t m)
{
    if (n == 0 || m == 0)
        return (uint32_t)(n + m);
    uint32_t best = distance_naive(a, n - 1, b, m) + 1;
    uint32_t insert = distance_naive(a, n, b, m - 1) + 1;
    uint32_t change = distance_naive(a, n - 1, b, m - 1) + (a[n - 1] != b[m - 1]);
    best = insert < best ? insert : best;
    best = change < best ? change : best;
    if (n > 1 && m > 1 && a[n - 1] == b[m - 2] && a[n - 2] == b[m - 1]) {
        uint32_t swap = distance_naive(a, n - 2, b, m - 2) + 1;
        best = swap < best ? swap : best;
    }
    return best;
}

Test(nearest, distance_is_the_definition)
{
    struct rng rng = rng_of(3);
    for (int i = 0; i < 400; i++) {
        char a[8] = "", b[8] = "";
        size_t n = rng_below(&rng, 7), m = rng_below(&rng, 7);
        for (size_t k = 0; k < n; k++)
            a[k] = (char)('a' + rng_below(&rng, 3));
        for (size_t k = 0; k < m; k++)
            b[k] = (char)('a' + rng_below(&rng, 3));
        cr_assert_eq(nearest_distance(a, b), distance_naive(a, n, b, m), "%s %s", a, b);
    }
}

Test(nearest, hints)
{
    struct nearest n;
    nearest_init(&n, "outof_order");
    cr_expect_str_eq(nearest_hint(&n), "");
    nearest_put(&n, "idle_after");
    nearest_put(&n, "out_of_order");
    cr_expect_str_eq(nearest_hint(&n), "; did you mean \"out_of_order\"?");
    nearest_init(&n, "zzzzzz");
    nearest_put(&n, "idle_after");
    nearest_put(&n, "out_of_order");
    cr_expect_str_eq(nearest_hint(&n), "; there are: idle_after, out_of_order");
}

Test(nearest, long_words_and_lists_are_cut)
{
    char word[500], name[50];
    memset(word, 'x', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    memset(name, 'y', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    struct nearest n;
    nearest_init(&n, word);
    cr_expect_eq(nearest_distance(word, word), 0);
    cr_expect_eq(nearest_distance(word, name), NEAREST_WORD);
    for (int i = 0; i < 100; i++)
        nearest_put(&n, i % 2 == 0 ? name : "a");
    const char *hint = nearest_hint(&n);
    cr_expect_lt(strlen(hint), sizeof n.hint);
    cr_expect_str_eq(hint + strlen(hint) - 5, ", ...");
}
