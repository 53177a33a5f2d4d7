package mms_handler;

import com.amazonaws.ml.mms.util.NettyUtils;
import com.amazonaws.ml.mms.wlm.Job;
import com.amazonaws.ml.mms.wlm.Model;
import io.netty.channel.ChannelHandlerContext;
import io.netty.handler.codec.http.HttpResponseStatus;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;

/**
 * A request that is answered 504 when MMS gives its worker up for not answering in time; MMS alone
 * answers 500, "Worker died.".
 *
 * <p>A worker keeps a time limit of its own, which is shorter. It cannot when native code does not
 * return, or when the process is stopped.
 */
final class LimitedJob extends Job {
    private final Job job;
    private final Model model;

    /** When a worker got the request; 0 before. */
    private long startNs;

    /** The ids of the batch in which it is. */
    private Set<String> batch;

    private LimitedJob(Job job, Model model) {
        super(null, job.getModelName(), job.getCmd(), job.getPayload());
        this.job = job;
        this.model = model;
        RequestId.restore(getPayload());
    }

    /** @param job a request for {@code model} */
    static LimitedJob of(Job job, Model model) {
        return job instanceof LimitedJob ? (LimitedJob) job : new LimitedJob(job, model);
    }

    @Override
    public void setScheduled() {
        job.setScheduled();
        startNs = System.nanoTime();
    }

    void setBatch(Set<String> ids) {
        batch = ids;
    }

    /** Tell the access log what this worker did; by the worker's thread. */
    private void report(ChannelHandlerContext client) {
        Connection connection =
                AccessLog.ON && client != null && startNs != 0
                        ? client.pipeline().get(Connection.class)
                        : null;
        if (connection != null) {
            int pid = MmsInternals.currentPid(model);
            connection.worked(new AccessLog.Work(pid, batch.size(), startNs, System.nanoTime()));
        }
    }

    @Override
    public void response(
            byte[] body,
            CharSequence contentType,
            int status,
            String phrase,
            Map<String, String> headers) {
        report(MmsInternals.client(job));
        job.response(body, contentType, status, phrase, headers);
    }

    @Override
    public void sendError(HttpResponseStatus status, String error) {
        ChannelHandlerContext client = MmsInternals.client(job);
        report(client);
        if (client != null && isTooLate()) {
            String message =
                    String.format(
                            "the model did not answer within %d s, and its worker was ended",
                            model.getResponseTimeoutSeconds());
            NettyUtils.sendError(client, HttpResponseStatus.GATEWAY_TIMEOUT, new TimedOut(message));
        } else {
            job.sendError(status, error);
        }
    }

    private boolean isTooLate() {
        long limitNs = TimeUnit.SECONDS.toNanos(model.getResponseTimeoutSeconds());
        return startNs != 0 && System.nanoTime() - startNs >= limitNs;
    }
}
