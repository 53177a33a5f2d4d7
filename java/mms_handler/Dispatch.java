package mms_handler;

import com.amazonaws.ml.mms.util.NettyUtils;
import com.amazonaws.ml.mms.util.messages.InputParameter;
import io.netty.buffer.ByteBuf;
import io.netty.channel.ChannelHandler.Sharable;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpUtil;
import io.netty.handler.codec.http.QueryStringDecoder;
import io.netty.handler.codec.http.multipart.DefaultHttpDataFactory;
import io.netty.handler.codec.http.multipart.HttpPostRequestDecoder;
import io.netty.handler.codec.http.multipart.HttpPostRequestDecoder.EndOfDataDecoderException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** Hands the requests of our models to their lanes; all others are passed on to MMS. */
@Sharable
final class Dispatch extends ChannelInboundHandlerAdapter {
    @Override
    public void channelRead(ChannelHandlerContext context, Object message) {
        FullHttpRequest request = (FullHttpRequest) message;
        Lane lane =
                request.method().equals(HttpMethod.OPTIONS) || request.decoderResult().isFailure()
                        ? null
                        : Plane.lane(Target.of(request.uri()).model());
        if (lane == null) {
            context.fireChannelRead(request);
            return;
        }
        List<InputParameter> parts = parts(request);
        if (parts.isEmpty()) {
            lane.add(new Call(context, lane.counts, request, request.content(), 0));
        } else {
            ByteBuf body = encoded(context, parts);
            request.release();
            lane.add(new Call(context, lane.counts, request, body, parts.size()));
        }
    }

    /** The parts of a form or a query, as MMS's InferenceRequestHandler; none of a plain body. */
    private static List<InputParameter> parts(FullHttpRequest request) {
        List<InputParameter> parts = new ArrayList<>();
        if (request.uri().indexOf('?') >= 0 && !request.uri().startsWith("/predictions/")) {
            new QueryStringDecoder(request.uri())
                    .parameters()
                    .forEach(
                            (name, values) ->
                                    values.forEach(
                                            value -> parts.add(new InputParameter(name, value))));
        }
        if (Forms.isForm(request)) {
            addForm(request, parts);
        } else if (!parts.isEmpty()) {
            byte[] body = new byte[request.content().readableBytes()];
            request.content().getBytes(request.content().readerIndex(), body);
            parts.add(new InputParameter("body", body, HttpUtil.getMimeType(request)));
        }
        return parts;
    }

    private static void addForm(FullHttpRequest request, List<InputParameter> parts) {
        HttpPostRequestDecoder form =
                new HttpPostRequestDecoder(new DefaultHttpDataFactory(6553500), request);
        try {
            while (form.hasNext()) {
                parts.add(NettyUtils.getFormData(form.next()));
            }
        } catch (EndOfDataDecoderException e) {
            return; // all parts are read
        } finally {
            form.cleanFiles();
            form.destroy();
        }
    }

    /** Three lengths, a name, a type and a value for each part. */
    private static ByteBuf encoded(ChannelHandlerContext context, List<InputParameter> parts) {
        ByteBuf body = context.alloc().buffer();
        for (InputParameter part : parts) {
            byte[] name = part.getName().getBytes(StandardCharsets.UTF_8);
            String type = part.getContentType() == null ? "" : part.getContentType().toString();
            byte[] typeBytes = type.getBytes(StandardCharsets.UTF_8);
            body.writeIntLE(name.length);
            body.writeIntLE(typeBytes.length);
            body.writeIntLE(part.getValue().length);
            body.writeBytes(name).writeBytes(typeBytes).writeBytes(part.getValue());
        }
        return body;
    }
}
