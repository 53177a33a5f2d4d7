package mms_handler;

import com.amazonaws.ml.mms.util.ConfigManager;
import com.amazonaws.ml.mms.util.Connector;
import com.amazonaws.ml.mms.wlm.Model;
import com.amazonaws.ml.mms.wlm.ModelManager;
import io.netty.bootstrap.ServerBootstrap;
import io.netty.channel.Channel;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelOption;
import io.netty.channel.EventLoopGroup;
import io.netty.util.internal.PlatformDependent;
import java.io.File;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

/**
 * The way of requests around MMS's queue: workers connect to a socket beside MMS's own, and the
 * gate's event loops hand them requests and write their replies.
 *
 * <p>MMS still starts workers, has them load their models, and replaces them.
 */
final class Plane {
    static final boolean ON = Plugin.GATE != null && Plugin.PLANE;

    private static final String SOCKET = System.getProperty("java.io.tmpdir") + "/plane";
    private static final int BACKLOG = 1024;
    private static final int SEND_BUFFER_BYTES = 1 << 20;
    private static final long SWEEP_MS = 100;

    /** Bodies that wait take at most a part of the memory for buffers. */
    private static final long MAX_WAITING_BYTES = PlatformDependent.maxDirectMemory() / 4;

    private static final Map<String, Lane> LANES = new ConcurrentHashMap<>();

    private Plane() {}

    /** Listen for workers in the gate's event loops. */
    static void listen(EventLoopGroup loops) throws InterruptedException {
        new ServerBootstrap()
                .group(loops)
                .channel(Connector.parse("unix:" + SOCKET, false).getServerChannel())
                .option(ChannelOption.SO_BACKLOG, BACKLOG)
                .childOption(ChannelOption.SO_SNDBUF, SEND_BUFFER_BYTES)
                .childHandler(
                        new ChannelInitializer<Channel>() {
                            @Override
                            protected void initChannel(Channel channel) {
                                channel.pipeline().addLast(new LaneWorker(Plane::laneOfPort));
                            }
                        })
                .bind(Connector.parse("unix:" + SOCKET, false).getSocketAddress())
                .sync();
        new File(SOCKET).deleteOnExit();
        loops.scheduleWithFixedDelay(
                Plane::checkTimes,
                SWEEP_MS,
                SWEEP_MS,
                TimeUnit.MILLISECONDS);
    }

    private static void checkTimes() {
        try {
            LANES.values().forEach(Lane::checkTimes);
        } catch (RuntimeException e) { // it would be the last check
            Plugin.LOG.error("cannot check how long requests take", e);
        }
    }

    /** The lane of the model that has this name now; null if requests for it go MMS's way. */
    static Lane lane(String name) {
        Model model = name == null ? null : ModelManager.getInstance().getModels().get(name);
        return model == null ? null : lane(model);
    }

    /** The lane of a registered model; null if requests for it go MMS's way. */
    static Lane lane(Model model) {
        if (!ON) {
            return null;
        }
        Lane lane = LANES.get(model.getModelName());
        if (lane == null || lane.model != model) {
            lane = LANES.compute(model.getModelName(), (name, old) -> renewed(old, model));
        }
        return lane;
    }

    private static Lane renewed(Lane old, Model model) {
        if (old != null && old.model == model) {
            return old;
        }
        if (old != null) {
            old.close();
        }
        int capacity = ConfigManager.getInstance().getJobQueueSize();
        return new Lane(model, capacity, MAX_WAITING_BYTES);
    }

    /** The lane of the model whose workers MMS forks from the listener on this port. */
    static Lane laneOfPort(int port) {
        for (Model model : ModelManager.getInstance().getModels().values()) {
            if (model.getPort() == port) {
                return lane(model);
            }
        }
        return null;
    }

    /** Close the lanes of models that are not registered any more. */
    static void forgetOthers(Map<String, Model> registered) {
        LANES.values()
                .removeIf(
                        lane -> {
                            boolean other = registered.get(lane.model.getModelName()) != lane.model;
                            if (other) {
                                lane.close();
                            }
                            return other;
                        });
    }
}
