// SPDX-License-Identifier: Apache-2.0
// The embedded broker: topics as asked for, reachable at its address, one beside another.
#include "kafka_twin.h"

#include "stream/sink.h"
#include "stream/source.h"

Test(broker, has_its_topics)
{
    const struct broker_topic topics[] = {{"events", 4}, {"users", 1}};
    struct broker *b = NULL;
    struct err err = {0};
    cr_assert_eq(broker_new(topics, 2, &b, &err), 0, "%s", err.message);
    cr_assert_eq(strncmp(broker_address(b), "127.0.0.1:", 10), 0, "%s", broker_address(b));
    const char *conf[] = {"bootstrap.servers", broker_address(b), NULL};
    int32_t n = 0;
    cr_assert_eq(source_kafka_partitions(conf, "events", TWIN_WAIT_MS, &n, &err), 0, "%s", err.message);
    cr_assert_eq(n, 4);
    cr_assert_eq(source_kafka_partitions(conf, "users", TWIN_WAIT_MS, &n, &err), 0, "%s", err.message);
    cr_assert_eq(n, 1);
    broker_free(b);
}

Test(broker, knows_no_other_topic)
{
    struct broker *b = twin_broker("events", 1);
    // The mock cluster makes any topic that is asked for, unless it is told an error.
    rd_kafka_mock_topic_set_error(b->cluster, "nothing", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    const char *conf[] = {"bootstrap.servers", broker_address(b), NULL};
    struct err err = {0};
    int32_t n = -7;
    cr_assert_eq(source_kafka_partitions(conf, "nothing", TWIN_WAIT_MS, &n, &err), -1);
    cr_assert_eq(err.code, ERR_NOT_FOUND, "%s", err.message);
    cr_assert_eq(n, -7);
    broker_free(b);
}

Test(broker, stands_beside_another)
{
    struct broker *a = twin_broker("events", 1);
    struct broker *b = twin_broker("events", 2);
    cr_assert_str_neq(broker_address(a), broker_address(b));
    const char *conf[] = {"bootstrap.servers", broker_address(b), NULL};
    struct err err = {0};
    int32_t n = 0;
    cr_assert_eq(source_kafka_partitions(conf, "events", TWIN_WAIT_MS, &n, &err), 0, "%s", err.message);
    cr_assert_eq(n, 2);
    broker_free(a);
    broker_free(b);
}

Test(broker, refuses_a_topic_twice)
{
    const struct broker_topic topics[] = {{"events", 4}, {"events", 1}};
    struct broker *b = NULL;
    struct err err = {0};
    cr_assert_eq(broker_new(topics, 2, &b, &err), -1);
    cr_assert_eq(err.code, ERR_INVALID);
    cr_assert_null(b);
}

Test(broker, an_away_one_is_unavailable)
{
    const char *conf[] = {"bootstrap.servers", "127.0.0.1:1", NULL};
    struct err err = {0};
    int32_t n = 0;
    cr_assert_eq(source_kafka_partitions(conf, "events", 300, &n, &err), -1);
    cr_assert_eq(err.code, ERR_UNAVAILABLE, "%s", err.message);
    cr_assert(err.retriable);
    err = (struct err){0};
    cr_assert_eq(sink_kafka_topic(conf, "events", 1, 300, &err), -1);
    cr_assert_eq(err.code, ERR_UNAVAILABLE, "%s", err.message);
}

Test(broker, a_wrong_property_is_named)
{
    const char *conf[] = {"bootstrap.severs", "127.0.0.1:1", NULL};
    struct err err = {0};
    int32_t n = 0;
    cr_assert_eq(source_kafka_partitions(conf, "events", 300, &n, &err), -1);
    cr_assert_eq(err.code, ERR_CONFIG);
    cr_assert_not_null(strstr(err.message, "bootstrap.severs"), "%s", err.message);
}

Test(broker, a_topic_is_made_where_it_is_missing)
{
    struct broker *b = twin_broker("events", 2);
    const char *conf[] = {"bootstrap.servers", broker_address(b), NULL};
    struct err err = {0};
    cr_assert_eq(sink_kafka_topic(conf, "events", 2, TWIN_WAIT_MS, &err), 0, "%s", err.message);
    cr_assert_eq(sink_kafka_topic(conf, "made", 1, TWIN_WAIT_MS, &err), 0, "%s", err.message);
    cr_assert_eq(sink_kafka_topic(conf, "made", 1, TWIN_WAIT_MS, &err), 0, "%s", err.message);
    cr_assert_eq(sink_kafka_topic(conf, "events", 3, TWIN_WAIT_MS, &err), -1);
    cr_assert_eq(err.code, ERR_INVALID, "%s", err.message);
    broker_free(b);
}
