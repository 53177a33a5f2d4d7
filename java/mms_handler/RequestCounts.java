package mms_handler;

import com.amazonaws.ml.mms.wlm.ModelManager;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import org.apache.logging.log4j.core.LogEvent;

/** The answered invocations by model; those that MMS answered are read from its access log. */
final class RequestCounts {
    private static final Map<String, ModelCounts> BY_MODEL = new ConcurrentHashMap<>();

    private RequestCounts() {}

    /** Counts by MMS's name of a model; under "", of requests for models that do not exist. */
    static Map<String, ModelCounts> byModel() {
        BY_MODEL.keySet().removeIf(name -> !name.isEmpty() && !isKnown(name));
        return BY_MODEL;
    }

    private static boolean isKnown(String mmsName) {
        return Routes.version(mmsName) != null
                || ModelManager.getInstance().getModels().containsKey(mmsName);
    }

    /** The counts of a model that there is, by MMS's name. */
    static ModelCounts of(String mmsName) {
        return BY_MODEL.computeIfAbsent(mmsName, name -> new ModelCounts());
    }

    /** Read every line of the access log, without changing whether it is written. */
    static void follow() {
        LogReader.follow("ACCESS_LOG", RequestCounts::read);
    }

    /** Session.toString writes: CLIENT "METHOD URI PROTOCOL" STATUS MILLISECONDS. */
    private static void read(LogEvent event) {
        String[] words = event.getMessage().getFormattedMessage().split(" ");
        int last = words.length - 1;
        int status = Integer.parseInt(words[last - 1]);
        count(words[1].substring(1), words[2], status, Long.parseLong(words[last]));
    }

    /** Count an answer of MMS, if its request, with MMS's name of a model, was an invocation. */
    private static void count(String method, String uri, int status, long millis) {
        add(method, Target.of(uri).model(), status, millis);
    }

    /** Count an answer that MMS does not log, if its request, as it came, was an invocation. */
    static void countUnlogged(String method, String uri, int status, long millis) {
        Target target = Target.of(uri);
        add(method, Routes.mmsName(target.model(), target.version()), status, millis);
    }

    private static void add(String method, String mmsName, int status, long millis) {
        if (mmsName != null && !method.equals("OPTIONS")) {
            long ns = TimeUnit.MILLISECONDS.toNanos(millis);
            of(isKnown(mmsName) ? mmsName : "").answered(status, ns);
        }
    }
}
