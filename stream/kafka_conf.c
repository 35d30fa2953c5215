// SPDX-License-Identifier: Apache-2.0
#include "stream/kafka_conf.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { ERRSTR_BYTES = 512 };

static void kafka_log_nowhere(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
    (void)rk, (void)level, (void)facility, (void)text;
}

static int kafka_conf_apply(rd_kafka_conf_t *conf, const char *const *list, struct err *err)
{
    char errstr[ERRSTR_BYTES];
    for (; list != NULL && list[0] != NULL; list += 2)
        if (rd_kafka_conf_set(conf, list[0], list[1], errstr, sizeof errstr) != RD_KAFKA_CONF_OK)
            return err_set(err, ERR_CONFIG, "kafka property %s: %s", list[0], errstr);
    return 0;
}

static bool kafka_list_has(const char *const *list, const char *name)
{
    for (; list != NULL && list[0] != NULL; list += 2)
        if (strcmp(list[0], name) == 0)
            return true;
    return false;
}

rd_kafka_conf_t *kafka_conf_new(const char *const *defaults, const char *const *user,
                                const char *const *forced, struct err *err)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (kafka_conf_apply(conf, defaults, err) < 0 || kafka_conf_apply(conf, user, err) < 0 ||
        kafka_conf_apply(conf, forced, err) < 0) {
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    if (!kafka_list_has(user, "debug"))
        rd_kafka_conf_set_log_cb(conf, kafka_log_nowhere);
    return conf;
}

rd_kafka_t *kafka_handle_new(rd_kafka_type_t type, rd_kafka_conf_t *conf, struct err *err)
{
    char errstr[ERRSTR_BYTES];
    rd_kafka_t *rk = rd_kafka_new(type, conf, errstr, sizeof errstr);
    if (rk == NULL) {
        rd_kafka_conf_destroy(conf);
        err_set(err, ERR_CONFIG, "kafka: %s", errstr);
    }
    return rk;
}

char **kafka_list_copy(const char *const *list)
{
    size_t n = 0;
    while (list != NULL && list[n] != NULL)
        n++;
    char **copy = mem_array(n + 1, sizeof *copy);
    for (size_t i = 0; i < n; i++)
        copy[i] = mem_strdup(list[i]);
    return copy;
}

void kafka_list_free(char **list)
{
    for (size_t i = 0; list != NULL && list[i] != NULL; i++)
        free(list[i]);
    free(list);
}

static int kafka_topic_error(const char *topic, rd_kafka_resp_err_t code, struct err *err)
{
    if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC)
        return err_set(err, ERR_NOT_FOUND, "kafka has no topic %s", topic);
    if (code == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION)
        return err_set(err, ERR_INVALID, "kafka says that %s cannot be the name of a topic", topic);
    return err_set_retriable(err, ERR_UNAVAILABLE, "topic %s: %s", topic, rd_kafka_err2str(code));
}

int kafka_partitions(rd_kafka_t *rk, const char *topic, int timeout_ms, int32_t *ret_count, struct err *err)
{
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);
    if (rkt == NULL)
        return err_set(err, ERR_INVALID, "topic %s: %s", topic, rd_kafka_err2str(rd_kafka_last_error()));
    const struct rd_kafka_metadata *md = NULL;
    rd_kafka_resp_err_t code = rd_kafka_metadata(rk, 0, rkt, &md, timeout_ms);
    int result;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        result = err_set_retriable(err, ERR_UNAVAILABLE, "kafka does not answer: %s", rd_kafka_err2str(code));
    else if (md->topic_cnt != 1)
        result = err_set(err, ERR_NOT_FOUND, "kafka has no topic %s", topic);
    else if (md->topics[0].err != RD_KAFKA_RESP_ERR_NO_ERROR || md->topics[0].partition_cnt == 0)
        result = kafka_topic_error(topic, md->topics[0].err, err);
    else {
        *ret_count = md->topics[0].partition_cnt;
        result = 0;
    }
    if (md != NULL)
        rd_kafka_metadata_destroy(md);
    rd_kafka_topic_destroy(rkt);
    return result;
}

bool kafka_stats_up(const char *json)
{
    return strstr(json, "\"state\":\"UP\"") != NULL;
}
