// SPDX-License-Identifier: Apache-2.0
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.TreeMap;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;

/** What is done to an event: first where its user is, then, behind a repartition topic, where its item is. */
final class Processors {
    static final String USERS = "users", SEQUENCES = "sequences", PENDING = "pending", ITEMS = "items";
    static final String TO_ITEMS = "to-items", TO_SAMPLES = "to-samples";
    static final LongAdder usersDone = new LongAdder(), sentToItems = new LongAdder(), itemsDone = new LongAdder(),
            samples = new LongAdder(), orphans = new LongAdder();

    private Processors() { }

    /**
     * Counts for the user, appends to the Last-100 of (user, action), and joins.
     *
     * Impressions that wait are one value a (user, item); only when each is due is kept on the heap, and read back from the
     * store when a task starts. So an impression costs one put and one delete, and not one of each for a timer besides.
     */
    static final class User implements Processor<byte[], Event, byte[], byte[]> {
        private final long windowMs;
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<byte[], byte[]> users, sequences, pending;
        private final TreeMap<Long, List<byte[]>> due = new TreeMap<>(); // by second

        User(long windowMs) {
            this.windowMs = windowMs;
        }

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
            users = context.getStateStore(USERS);
            sequences = context.getStateStore(SEQUENCES);
            pending = context.getStateStore(PENDING);
            try (KeyValueIterator<byte[], byte[]> all = pending.all()) {
                all.forEachRemaining(kv -> {
                    for (int at = 0; at < kv.value.length; at += Waiting.size(kv.value, at))
                        remind(kv.key, Waiting.ts(kv.value, at));
                });
            }
            context.schedule(Duration.ofSeconds(1), PunctuationType.STREAM_TIME, this::emit);
        }

        @Override
        public void process(Record<byte[], Event> record) {
            Event e = record.value();
            byte[] counters = Tiles.add(users.get(e.user), e.action, e.ts, e.items.size());
            if (e.action == Event.WATCH)
                counters = Tiles.add(counters, Event.WATCH_MS, e.ts, e.watchMs);
            users.put(e.user, counters);
            byte[] forItem = e.forItem();
            for (byte[] item : e.items) {
                byte[] pair = Event.pair(e.user, item, 0, item.length);
                if (e.action == Event.IMPRESSION)
                    shown(pair, e);
                else
                    feedback(pair, item, e);
                context.forward(new Record<>(item, forItem, e.ts), TO_ITEMS);
            }
            sentToItems.add(e.items.size());
            usersDone.increment();
        }

        private void shown(byte[] pair, Event e) {
            pending.put(pair, Waiting.add(pending.get(pair), e));
            remind(pair, e.ts);
        }

        private void feedback(byte[] pair, byte[] item, Event e) {
            byte[] key = Event.pair(e.user, new byte[] {(byte) e.action}, 0, 1);
            sequences.put(key, Sequence.add(sequences.get(key), item, e.ts));
            byte[] labelled = Waiting.label(pending.get(pair), e, windowMs);
            if (labelled == null)
                orphans.increment();
            else
                pending.put(pair, labelled);
        }

        private void remind(byte[] pair, long ts) {
            due.computeIfAbsent((ts + windowMs) / 1000, k -> new ArrayList<>()).add(pair);
        }

        /** Samples of the seconds that are over leave. */
        private void emit(long now) {
            while (!due.isEmpty() && (due.firstKey() + 1) * 1000 <= now) {
                for (byte[] pair : due.pollFirstEntry().getValue())
                    emit(pair, now);
            }
        }

        private void emit(byte[] pair, long now) {
            byte[] value = pending.get(pair);
            if (value == null) // twice in one second: both have left
                return;
            int left = 0;
            while (left < value.length && Waiting.ts(value, left) + windowMs <= now) {
                int size = Waiting.size(value, left);
                context.forward(new Record<>(pair, Arrays.copyOfRange(value, left, left + size), now), TO_SAMPLES);
                samples.increment();
                left += size;
            }
            if (left == value.length)
                pending.delete(pair);
            else if (left > 0)
                pending.put(pair, Arrays.copyOfRange(value, left, value.length));
        }
    }

    /** Counts for the item, and for the item by each bucket of the event. */
    static final class Item implements Processor<byte[], byte[], Void, Void> {
        private KeyValueStore<byte[], byte[]> items;

        @Override
        public void init(ProcessorContext<Void, Void> context) {
            items = context.getStateStore(ITEMS);
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            byte[] e = record.value();
            int action = e[0];
            long watchMs = action == Event.WATCH ? (long) Tiles.LONG.get(e, 1) : 0;
            count(record.key(), action, record.timestamp(), watchMs);
            for (int at = action == Event.WATCH ? 9 : 1; at < e.length; at += 1 + e[at])
                count(Event.pair(record.key(), e, at + 1, e[at]), action, record.timestamp(), watchMs);
            itemsDone.increment();
        }

        private void count(byte[] key, int action, long ts, long watchMs) {
            byte[] counters = Tiles.add(items.get(key), action, ts, 1);
            if (action == Event.WATCH)
                counters = Tiles.add(counters, Event.WATCH_MS, ts, watchMs);
            items.put(key, counters);
        }
    }

    /** The last 100, by time: entries of ts i64 | length u8 | item. */
    static final class Sequence {
        private static final int LAST = 100;

        static byte[] add(byte[] old, byte[] item, long ts) {
            byte[] from = old == null ? new byte[0] : old;
            int n = 0, place = 0;
            for (int at = 0; at < from.length; at += size(from, at), n++)
                if ((long) Tiles.LONG.get(from, at) <= ts)
                    place = at + size(from, at);
            int skip = n >= LAST ? size(from, 0) : 0;
            if (skip > 0 && place == 0)
                return from;
            int size = 9 + item.length;
            byte[] to = new byte[from.length - skip + size];
            System.arraycopy(from, skip, to, 0, place - skip);
            Tiles.LONG.set(to, place - skip, ts);
            to[place - skip + 8] = (byte) item.length;
            System.arraycopy(item, 0, to, place - skip + 9, item.length);
            System.arraycopy(from, place, to, place - skip + size, from.length - place);
            return to;
        }

        static int size(byte[] value, int at) {
            return 9 + (value[at + 8] & 0xff);
        }
    }

    /**
     * Impressions of one (user, item) that wait, by time, and as samples what leaves:
     *
     *     ts i64 | watch_ms i64 | labels u16, a bit an action | length u8 | request id
     */
    static final class Waiting {
        private static final int FIXED = 19;

        static long ts(byte[] value, int at) {
            return (long) Tiles.LONG.get(value, at);
        }

        static int size(byte[] value, int at) {
            return FIXED + (value[at + 18] & 0xff);
        }

        static byte[] add(byte[] old, Event e) {
            byte[] from = old == null ? new byte[0] : old;
            int place = 0;
            for (int at = 0; at < from.length && ts(from, at) <= e.ts; at += size(from, at))
                place = at + size(from, at);
            int size = FIXED + e.request.length;
            byte[] to = new byte[from.length + size];
            System.arraycopy(from, 0, to, 0, place);
            Tiles.LONG.set(to, place, e.ts);
            to[place + 18] = (byte) e.request.length;
            System.arraycopy(e.request, 0, to, place + FIXED, e.request.length);
            System.arraycopy(from, place, to, place + size, from.length - place);
            return to;
        }

        /** The value with the label at the latest impression that matches, or null. */
        static byte[] label(byte[] value, Event e, long windowMs) {
            int found = -1;
            for (int at = 0; value != null && at < value.length; at += size(value, at))
                if (ts(value, at) <= e.ts && e.ts < ts(value, at) + windowMs && sameRequest(value, at, e.request))
                    found = at;
            if (found < 0)
                return null;
            byte[] to = value.clone();
            int bit = 1 << e.action;
            to[found + 16] |= (byte) (bit >> 8);
            to[found + 17] |= (byte) bit;
            if (e.action == Event.WATCH)
                Tiles.LONG.set(to, found + 8, Math.max(e.watchMs, (long) Tiles.LONG.get(to, found + 8)));
            return to;
        }

        private static boolean sameRequest(byte[] value, int at, byte[] request) {
            int end = at + size(value, at);
            return request.length == 0 || end == at + FIXED
                    || Arrays.equals(value, at + FIXED, end, request, 0, request.length);
        }
    }
}
