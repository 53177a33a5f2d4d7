package mms_handler;

import com.amazonaws.ml.mms.util.JsonUtils;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.stream.LongStream;

/** What the page's charts are drawn from: what each version has answered, and its workers. */
final class Live {
    private static volatile List<Map<String, Object>> models = Collections.emptyList();
    private static volatile long atNs = System.nanoTime();

    private Live() {}

    /** Take note of the counts of this moment, so that no request has to wait for the workers. */
    static void note(Collection<Workers> all) {
        if (Plugin.PAGES != null) {
            List<Map<String, Object>> noted = new ArrayList<>();
            all.forEach(workers -> noted.add(described(workers)));
            atNs = System.nanoTime();
            models = noted;
        }
    }

    /** The latest counts. */
    static String json() {
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("ms", TimeUnit.NANOSECONDS.toMillis(atNs));
        all.put("bounds", LongStream.of(Histogram.MICROS).mapToDouble(n -> n / 1e6).toArray());
        all.put("models", models);
        return JsonUtils.GSON.toJson(all);
    }

    private static Map<String, Object> described(Workers workers) {
        String mmsName = workers.model.getModelName();
        String[] labels = Routes.labels(mmsName);
        Map<String, Object> described = new LinkedHashMap<>();
        for (int i = 0; i < labels.length; i += 2) {
            described.put(labels[i], labels[i + 1]);
        }
        described.put("alive", workers.alive);
        described.put("wanted", workers.expected);
        described.put("waiting", workers.waiting());
        ModelCounts counts = RequestCounts.byModel().get(mmsName);
        if (counts != null) {
            addAnswers(counts, described);
        }
        return described;
    }

    /** Add how many requests had each status, and how many took how long. */
    private static void addAnswers(ModelCounts counts, Map<String, Object> described) {
        Map<String, Long> statuses = new LinkedHashMap<>();
        long[] buckets = new long[Histogram.MICROS.length + 1];
        for (String status : counts.statuses()) {
            long[] times = counts.answers(status).counts();
            statuses.put(status, LongStream.of(times).sum());
            Arrays.setAll(buckets, i -> buckets[i] + times[i]);
        }
        described.put("statuses", statuses);
        described.put("buckets", buckets);
    }
}
