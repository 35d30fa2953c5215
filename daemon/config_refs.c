// SPDX-License-Identifier: Apache-2.0
// What a config names of a profile or a context (user.age, context.device), and the attributes that
// stream.users and stream.items declare. Where they are declared a name that is not there is a mistake, and so
// is a use that its type does not fit; where they are not, any name may come.
#include <stdio.h>
#include <string.h>

#include "daemon/config_keys.h"

static const char *const type_names[] = {[CONFIG_ANY] = "any",
                                         [CONFIG_STRING] = "string",
                                         [CONFIG_REAL] = "number",
                                         [CONFIG_LIST] = "list",
                                         [CONFIG_BOOLEAN] = "boolean"};
static const char *const sources[] = {
    [CONFIG_OF_USER] = "user", [CONFIG_OF_ITEM] = "item", [CONFIG_OF_CONTEXT] = "context"};

// ---- declarations ------------------------------------------------------------------------------------

static int attribute_read(struct config_loader *l, const char *section, const struct tree_node *n,
                          struct config_attribute *to)
{
    char value[80], what[CONFIG_NAME];
    int type = n->kind == TREE_SCALAR ? config_choice("any|string|number|list|boolean", n->text) : -1;
    if (type <= 0)
        return tree_fail(l->err, &n->at, "%s.%.64s is %s, but must be one of: string, number, list, boolean",
                         section, n->key, tree_quote(n, value, sizeof value));
    size_t len = strlen(n->key);
    snprintf(what, sizeof what, "an attribute");
    if (len == 0 || len >= CONFIG_NAME)
        return tree_fail(l->err, &n->key_at, "\"%.80s\" is no name for %s: 1 to %d bytes", n->key, what,
                         CONFIG_NAME - 1);
    memcpy(to->name, n->key, len + 1);
    to->type = (enum config_type_of)type;
    return 0;
}

static int attributes_read(struct config_loader *l, const char *section, const struct tree_node *n,
                           struct config_attribute *to, uint32_t *ret_n)
{
    if (config_map_check(l, section, n) < 0)
        return -1;
    for (const struct tree_node *c = n->first; c != NULL; c = c->next) {
        if (*ret_n == CONFIG_ATTRIBUTES_MAX)
            return tree_fail(l->err, &c->key_at, "%s: more than %d attributes", section,
                             CONFIG_ATTRIBUTES_MAX);
        if (attribute_read(l, section, c, &to[*ret_n]) < 0)
            return -1;
        (*ret_n)++;
    }
    return 0;
}

int config_user_attributes_read(struct config_loader *l, const struct tree_node *n)
{
    return attributes_read(l, "stream.users.attributes", n, l->c->user_attributes, &l->c->n_user_attributes);
}

// An attribute that stream.items names must be declared, where any is.
static int item_named(struct config_loader *l, const char *name, const char *key, unsigned types,
                      const struct config_at *at)
{
    struct config_ref ref;
    char what[CONFIG_NAME];
    snprintf(what, sizeof what, "stream.items.%s", key);
    return name[0] == '\0' ? 0 : config_ref_of(l, what, CONFIG_OF_ITEM, name, types, at, &ref);
}

int config_item_attributes_read(struct config_loader *l, const struct tree_node *n)
{
    struct config *c = l->c;
    if (attributes_read(l, "stream.items.attributes", n, c->item_attributes, &c->n_item_attributes) < 0)
        return -1;
    c->uses[CONFIG_OF_ITEM].what[0] = '\0';
    if (item_named(l, c->item_birth, "birth", 1U << CONFIG_STRING | 1U << CONFIG_REAL, &n->at) < 0)
        return -1;
    c->uses[CONFIG_OF_ITEM].what[0] = '\0'; // without profiles an item is born when it is first seen
    return 0;
}

// ---- uses --------------------------------------------------------------------------------------------

static const struct config_attribute *declared(const struct config *c, enum config_source of,
                                               const char *field, uint32_t *ret_n)
{
    const struct config_attribute *list = of == CONFIG_OF_USER ? c->user_attributes : c->item_attributes;
    *ret_n = of == CONFIG_OF_USER ? c->n_user_attributes : c->n_item_attributes;
    for (uint32_t i = 0; i < *ret_n; i++)
        if (strcmp(list[i].name, field) == 0)
            return &list[i];
    return NULL;
}

static int undeclared_fail(struct config_loader *l, const char *what, enum config_source of,
                           const char *field, const struct config_at *at)
{
    const struct config *c = l->c;
    const struct config_attribute *list = of == CONFIG_OF_USER ? c->user_attributes : c->item_attributes;
    uint32_t n = of == CONFIG_OF_USER ? c->n_user_attributes : c->n_item_attributes;
    struct nearest near;
    nearest_init(&near, field);
    for (uint32_t i = 0; i < n; i++)
        nearest_put(&near, list[i].name);
    return tree_fail(l->err, at, "%s: no attribute \"%.60s\" in stream.%ss.attributes%s", what, field,
                     sources[of], nearest_hint(&near));
}

static void use_note(struct config *c, const char *what, const struct config_ref *ref,
                     const struct config_at *at)
{
    if (ref->of > CONFIG_OF_ITEM || c->uses[ref->of].what[0] != '\0')
        return;
    c->uses[ref->of].at = *at;
    snprintf(c->uses[ref->of].what, sizeof c->uses[ref->of].what, "%.100s: %s.%.60s", what, sources[ref->of],
             ref->field);
}

int config_ref_of(struct config_loader *l, const char *what, enum config_source of, const char *field,
                  unsigned types, const struct config_at *at, struct config_ref *ret_ref)
{
    if (strlen(field) >= CONFIG_NAME)
        return tree_fail(l->err, at, "%s: the name is longer than %d bytes", what, CONFIG_NAME - 1);
    *ret_ref = (struct config_ref){.of = of};
    snprintf(ret_ref->field, sizeof ret_ref->field, "%s", field);
    if (field[0] == '\0' || of == CONFIG_OF_CONTEXT)
        return 0;
    uint32_t n;
    const struct config_attribute *a = declared(l->c, of, field, &n);
    if (a == NULL && n > 0)
        return undeclared_fail(l, what, of, field, at);
    if (a != NULL && !(types >> a->type & 1))
        return tree_fail(l->err, at,
                         "%s: %s.%s is declared as %s in stream.%ss.attributes, which it cannot use", what,
                         sources[of], field, type_names[a->type], sources[of]);
    ret_ref->type = a != NULL ? a->type : CONFIG_ANY;
    use_note(l->c, what, ret_ref, at);
    return 0;
}

int config_ref_read(struct config_loader *l, const char *what, const struct tree_node *n, bool self,
                    unsigned types, struct config_ref *ret_ref)
{
    char value[80];
    if (n->kind != TREE_SCALAR || n->null)
        return tree_fail(l->err, &n->at, "%s is %s, but must be a single value", what,
                         tree_quote(n, value, sizeof value));
    size_t len = strcspn(n->text, ".");
    const char *field = n->text[len] == '.' ? n->text + len + 1 : "";
    for (int i = 0; i <= CONFIG_OF_CONTEXT; i++) {
        if (strlen(sources[i]) != len || memcmp(sources[i], n->text, len) != 0)
            continue;
        bool bare = n->text[len] == '\0' && self && i != CONFIG_OF_CONTEXT;
        if (!bare && *field == '\0')
            break;
        return config_ref_of(l, what, (enum config_source)i, field, types, &n->at, ret_ref);
    }
    return tree_fail(l->err, &n->at,
                     "%s is \"%.60s\", but must be %scontext.NAME, user.ATTRIBUTE or item.ATTRIBUTE", what,
                     n->text, self ? "user, item, " : "");
}

int config_check_profiles(const struct config *c, struct err *err)
{
    for (int i = CONFIG_OF_USER; i <= CONFIG_OF_ITEM; i++) {
        const char *topic = i == CONFIG_OF_USER ? c->users.topic : c->items.topic;
        if (c->uses[i].what[0] == '\0' || topic[0] != '\0')
            continue;
        return tree_fail(
            err, &c->uses[i].at,
            "%s is of a profile, and stream.%ss.topic is empty: no profile would ever come; name "
            "the topic, or use what events carry (context.NAME)",
            c->uses[i].what, sources[i]);
    }
    return 0;
}
