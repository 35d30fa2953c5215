// SPDX-License-Identifier: Apache-2.0
// The floor that ingest is held to: librdkafka and simdjson over a topic, every field of an event read, no
// state. bench_bare BROKER TOPIC: prints events, wall and CPU seconds, events per CPU-second.
#include <librdkafka/rdkafka.h>
#include <simdjson.h>

#include <cstdio>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

static double seconds(clockid_t id)
{
    timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    char errstr[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    const char *set[][2] = {{"bootstrap.servers", argv[1]},          {"group.id", "bare"},
                            {"enable.partition.eof", "true"},        {"enable.auto.commit", "false"},
                            {"auto.offset.reset", "error"},          {"queued.min.messages", "1000000"},
                            {"queued.max.messages.kbytes", "262144"}};
    for (auto &s : set)
        rd_kafka_conf_set(conf, s[0], s[1], errstr, sizeof errstr);
    rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, errstr, sizeof errstr);
    rd_kafka_poll_set_consumer(rk);
    const rd_kafka_metadata_t *meta;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, argv[2], nullptr);
    if (rd_kafka_metadata(rk, 0, topic, &meta, 10000) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return 1;
    int parts = meta->topics[0].partition_cnt;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(parts);
    for (int p = 0; p < parts; p++)
        rd_kafka_topic_partition_list_add(list, argv[2], p)->offset = RD_KAFKA_OFFSET_BEGINNING;
    double wall = seconds(CLOCK_MONOTONIC);
    double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    rd_kafka_assign(rk, list);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);
    std::vector<rd_kafka_message_t *> batch(2000);
    std::vector<char> padded(1 << 20);
    simdjson::ondemand::parser parser;
    unsigned long long events = 0, bytes = 0, sum = 0;
    for (int ended = 0; ended < parts;) {
        ssize_t n = rd_kafka_consume_batch_queue(queue, 1000, batch.data(), batch.size());
        for (ssize_t i = 0; i < n; i++) {
            rd_kafka_message_t *m = batch[(size_t)i];
            if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
                ended++;
            if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR &&
                m->len + simdjson::SIMDJSON_PADDING <= padded.size()) {
                memcpy(padded.data(), m->payload, m->len);
                auto doc = parser.iterate(padded.data(), m->len, padded.size());
                for (auto field : doc.get_object()) {
                    std::string_view key = field.unescaped_key();
                    auto value = field.value();
                    std::string_view text;
                    int64_t number;
                    if (value.get_string().get(text) == simdjson::SUCCESS)
                        sum += text.size() + key.size();
                    else if (value.get_int64().get(number) == simdjson::SUCCESS)
                        sum += (unsigned long long)number;
                    else
                        sum += value.raw_json_token().value().size();
                }
                events++;
                bytes += m->len;
            }
            rd_kafka_message_destroy(m);
        }
    }
    wall = seconds(CLOCK_MONOTONIC) - wall;
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    printf("{\"events\":%llu,\"bytes\":%llu,\"wall\":%.3f,\"cpu\":%.3f,\"per_cpu_second\":%.0f,\"check\":%"
           "llu}\n",
           events, bytes, wall, cpu, (double)events / cpu, sum);
    rd_kafka_queue_destroy(queue);
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
    return 0;
}
