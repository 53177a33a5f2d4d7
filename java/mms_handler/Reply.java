package mms_handler;

import io.netty.buffer.ByteBuf;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpVersion;

/** A worker's reply to one request of its batch. */
final class Reply {
    /** The request's place in the batch. */
    final int index;

    private final int status;
    private final String head;
    private final ByteBuf body;

    /**
     * @param head lines: the phrase, and a name and a value for each header
     * @param body a part of the worker's frame
     */
    Reply(int index, int status, String head, ByteBuf body) {
        this.index = index;
        this.status = status;
        this.head = head;
        this.body = body;
    }

    /** The response to the client, with the body where it is. */
    FullHttpResponse response() {
        int end = head.indexOf('\n');
        String phrase = end < 0 ? head : head.substring(0, end);
        HttpResponseStatus line = HttpResponseStatus.valueOf(status);
        if (!phrase.equals(line.reasonPhrase())) {
            line = HttpResponseStatus.valueOf(status, phrase);
        }
        FullHttpResponse response =
                new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, line, body.retain(), false);
        while (end >= 0) {
            int middle = head.indexOf('\n', end + 1);
            int last = head.indexOf('\n', middle + 1);
            String value = head.substring(middle + 1, last < 0 ? head.length() : last);
            response.headers().set(head.substring(end + 1, middle), value);
            end = last;
        }
        return response;
    }
}
