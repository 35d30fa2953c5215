// SPDX-License-Identifier: Apache-2.0
// What tests of the config share: loading a text, the default, or one override, and finding what came of it.
#ifndef FRESHET_TESTS_UNIT_CONFIG_TEXT_H
#define FRESHET_TESTS_UNIT_CONFIG_TEXT_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/config_keys.h"

#define DAY INT64_C(86400000)

static char file_name[64]; // of the text that was loaded last

static inline void file_write(const void *text, size_t len)
{
    snprintf(file_name, sizeof file_name, "/tmp/freshet-config-XXXXXX");
    int fd = mkstemp(file_name);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, len), (ssize_t)len);
    close(fd);
}

static inline int load_text(const char *text, struct config **ret_config, struct err *err)
{
    file_write(text, strlen(text));
    int rc = config_load(file_name, NULL, 0, NULL, ret_config, err);
    unlink(file_name);
    return rc;
}

static inline struct config *load_good(const char *text)
{
    struct config *c = NULL;
    struct err err = {0};
    cr_assert_eq(load_text(text, &c, &err), 0, "%s", err.message);
    return c;
}

static inline struct config *load_set(const char *path, const char *value)
{
    struct config *c = NULL;
    struct err err = {0};
    struct config_override o = {path, value};
    cr_assert_eq(config_load(NULL, &o, 1, NULL, &c, &err), 0, "%s", err.message);
    return c;
}

static inline const char *property(const struct config_properties *p, const char *name)
{
    for (uint32_t i = 0; i < p->n; i++)
        if (strcmp(p->list[2 * i], name) == 0)
            return p->list[2 * i + 1];
    return NULL;
}

static inline const struct config_feature *feature(const struct config *c, const char *name)
{
    int i = config_feature_find(c, name);
    cr_assert_geq(i, 0, "%s", name);
    return &c->features[i];
}

static inline const struct config_table *table(const struct config *c, const char *name)
{
    int i = config_table_find(c, name);
    cr_assert_geq(i, 0, "%s", name);
    return &c->tables[i];
}

static inline struct config *load_default(void)
{
    struct config *c = NULL;
    struct err err = {0};
    unsetenv("STATE_DIRECTORY");
    cr_assert_eq(config_load(NULL, NULL, 0, NULL, &c, &err), 0, "%s", err.message);
    return c;
}

#endif
