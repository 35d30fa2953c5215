// SPDX-License-Identifier: Apache-2.0
import java.io.IOException;
import java.io.PrintWriter;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.AutoOffsetReset;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.LogAndContinueExceptionHandler;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.RocksDBConfigSetter;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;
import org.rocksdb.BlockBasedTableConfig;
import org.rocksdb.BloomFilter;
import org.rocksdb.Cache;
import org.rocksdb.CompressionType;
import org.rocksdb.LRUCache;
import org.rocksdb.Options;

/**
 * The peer of `scripts/bench peers` on Kafka Streams: Processor API, exactly_once_v2. Arguments are name=value:
 *
 *     broker=HOST:PORT   dir=STATE       events=N      stop after N events, 0: never      dump=FILE  the stores, at the end
 *     app=NAME           buckets=true    threads=2     commit_ms=N     cache_mb=N    join_ms=N    pending=rocksdb|memory
 *
 * The topics are events, NAME-by-item and NAME-samples.
 *
 * A line of JSON on stdout when it is ready, when a fifth of the events is done ("warm"), and when all are ("done"); each
 * with the CPU of the process and the time since it began.
 */
public final class Peers {
    private static final String EVENTS = "events";
    private static final LongAdder restored = new LongAdder();

    private final Map<String, String> args = new HashMap<>(Map.of("threads", "2", "commit_ms", "10000", "cache_mb", "512",
            "join_ms", "600000", "buckets", "true", "pending", "memory", "events", "0", "app", "peers"));

    public static void main(String[] argv) throws Exception {
        new Peers(argv).run();
    }

    private Peers(String[] argv) {
        for (String a : argv)
            args.put(a.substring(0, a.indexOf('=')), a.substring(a.indexOf('=') + 1));
    }

    private String byItem() {
        return args.get("app") + "-by-item";
    }

    private String samples() {
        return args.get("app") + "-samples";
    }

    private long number(String name) {
        return Long.parseLong(args.get(name));
    }

    private void run() throws Exception {
        makeTopics();
        CountDownLatch running = new CountDownLatch(1);
        KafkaStreams streams = new KafkaStreams(topology(), properties());
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.RUNNING)
                running.countDown();
        });
        streams.setGlobalStateRestoreListener(new CountRestored());
        streams.setUncaughtExceptionHandler(problem -> {
            problem.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        streams.start();
        running.await();
        report("ready");
        long events = number("events");
        waitFor(events / 5, events / 5);
        report("warm");
        waitFor(events, events);
        report("done");
        if (args.containsKey("dump"))
            dump(streams);
        streams.close();
    }

    /** Until both halves together have done so much: they need not be equally far. With events=0, for ever. */
    private void waitFor(long users, long items) throws InterruptedException {
        boolean all = users == number("events");
        while (users == 0 || Processors.usersDone.sum() + Processors.itemsDone.sum() < users + items
                || all && Processors.itemsDone.sum() < Processors.sentToItems.sum())
            Thread.sleep(20);
    }

    private void report(String what) {
        var os = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        System.out.printf("{\"at\":\"%s\",\"cpu\":%.3f,\"wall\":%.3f,\"users\":%d,\"items\":%d,\"samples\":%d,\"orphans\":%d,"
                        + "\"restored\":%d}%n", what, os.getProcessCpuTime() / 1e9,
                (System.currentTimeMillis() - ManagementFactory.getRuntimeMXBean().getStartTime()) / 1e3,
                Processors.usersDone.sum(), Processors.itemsDone.sum(), Processors.samples.sum(),
                Processors.orphans.sum(), restored.sum());
        System.out.flush();
    }

    // ---- how it is put together

    private Topology topology() {
        boolean buckets = Boolean.parseBoolean(args.get("buckets"));
        long joinMs = number("join_ms");
        Deserializer<Event> events = (topic, bytes) -> {
            try {
                return Event.parse(bytes, buckets);
            } catch (IOException e) {
                throw new org.apache.kafka.common.errors.SerializationException(e);
            }
        };
        Topology t = new Topology();
        t.addSource(AutoOffsetReset.earliest(), "source", (record, before) -> ((Event) record.value()).ts,
                new ByteArrayDeserializer(), events, EVENTS);
        t.addProcessor("by-user", () -> new Processors.User(joinMs), "source");
        t.addStateStore(store(Processors.USERS, false), "by-user");
        t.addStateStore(store(Processors.SEQUENCES, false), "by-user");
        t.addStateStore(store(Processors.PENDING, args.get("pending").equals("memory")), "by-user");
        t.addSink(Processors.TO_ITEMS, byItem(), new ByteArraySerializer(), new ByteArraySerializer(), "by-user");
        t.addSink(Processors.TO_SAMPLES, samples(), new ByteArraySerializer(), new ByteArraySerializer(), "by-user");
        t.addSource(AutoOffsetReset.earliest(), "item-source", new ByteArrayDeserializer(),
                new ByteArrayDeserializer(), byItem());
        t.addProcessor("by-item", Processors.Item::new, "item-source");
        t.addStateStore(store(Processors.ITEMS, false), "by-item");
        return t;
    }

    /** In RocksDB behind the record cache; or on the heap, which needs no cache. Both have a changelog. */
    private static StoreBuilder<?> store(String name, boolean memory) {
        return memory
                ? Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore(name), Serdes.ByteArray(), Serdes.ByteArray())
                : Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(name), Serdes.ByteArray(),
                        Serdes.ByteArray()).withCachingEnabled();
    }

    private Properties properties() {
        Properties p = new Properties();
        p.put(StreamsConfig.APPLICATION_ID_CONFIG, args.get("app"));
        p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args.get("broker"));
        p.put(StreamsConfig.STATE_DIR_CONFIG, args.get("dir"));
        p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, args.get("threads"));
        p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, args.get("commit_ms"));
        p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, number("cache_mb") << 20);
        p.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 10_000);
        p.put(StreamsConfig.ROCKSDB_CONFIG_SETTER_CLASS_CONFIG, RocksDb.class);
        p.put(StreamsConfig.DESERIALIZATION_EXCEPTION_HANDLER_CLASS_CONFIG, LogAndContinueExceptionHandler.class);
        p.put(StreamsConfig.ENABLE_METRICS_PUSH_CONFIG, false);
        // A member that was killed comes back under its name, and nobody waits for its session to end.
        p.put(StreamsConfig.consumerPrefix(ConsumerConfig.GROUP_INSTANCE_ID_CONFIG), "one");
        p.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000);
        p.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 << 20);
        p.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MIN_BYTES_CONFIG), 64 << 10);
        p.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG), 50);
        p.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 100);
        p.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 << 10);
        p.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 128 << 20);
        p.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        p.put(StreamsConfig.producerPrefix(ProducerConfig.TRANSACTION_TIMEOUT_CONFIG), 300_000);
        return p;
    }

    /** As many partitions behind the item's key as there are of events. */
    private void makeTopics() throws Exception {
        try (Admin admin = Admin.create(Map.<String, Object>of("bootstrap.servers", args.get("broker")))) {
            int partitions = admin.describeTopics(List.of(EVENTS)).allTopicNames().get().get(EVENTS).partitions().size();
            for (String name : List.of(byItem(), samples())) {
                if (!admin.listTopics().names().get().contains(name))
                    admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1))).all().get();
            }
        }
    }

    /** One block cache for all stores, filters, large write buffers. */
    public static final class RocksDb implements RocksDBConfigSetter {
        private static final Cache CACHE = new LRUCache(256 << 20);

        @Override
        public void setConfig(String store, Options options, Map<String, Object> configs) {
            BlockBasedTableConfig table = (BlockBasedTableConfig) options.tableFormatConfig();
            table.setBlockCache(CACHE).setFilterPolicy(new BloomFilter(10)).setBlockSize(8 << 10);
            options.setTableFormatConfig(table).setWriteBufferSize(32 << 20).setMaxWriteBufferNumber(3)
                    .setCompressionType(CompressionType.LZ4_COMPRESSION);
        }

        @Override
        public void close(String store, Options options) { }
    }

    private static final class CountRestored implements StateRestoreListener {
        @Override
        public void onRestoreStart(TopicPartition partition, String store, long begin, long end) { }

        @Override
        public void onBatchRestored(TopicPartition partition, String store, long end, long n) {
            restored.add(n);
        }

        @Override
        public void onRestoreEnd(TopicPartition partition, String store, long total) { }
    }

    /** Every store as lines of: its name, key and value in hex, separated by spaces. */
    private void dump(KafkaStreams streams) throws IOException {
        HexFormat hex = HexFormat.of();
        try (PrintWriter to = new PrintWriter(args.get("dump"), StandardCharsets.US_ASCII)) {
            for (String store : List.of(Processors.USERS, Processors.SEQUENCES, Processors.PENDING, Processors.ITEMS)) {
                var query = StoreQueryParameters.fromNameAndType(store, QueryableStoreTypes.<byte[], byte[]>keyValueStore());
                try (KeyValueIterator<byte[], byte[]> all = streams.store(query).all()) {
                    all.forEachRemaining(
                            kv -> to.println(store + " " + hex.formatHex(kv.key) + " " + hex.formatHex(kv.value)));
                }
            }
        }
    }
}
