package mms_handler;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.function.Predicate;

/**
 * Orders of what happens to the requests of one model: clients, MMS's workers, their deaths, and
 * workers that retire or are recycled.  The queue is the plug-in's; MMS's model and its collector of
 * batches are MMS's own.
 */
final class QueueOrders extends SimulatedModel implements Order {
    private static final int EVENTS = 80;
    private static final int REQUESTS = 8;
    private static final int WORKERS = 3;

    private int deaths;
    private int scalings;
    private Worker leaver;
    private int toRetire;

    QueueOrders(long seed, StringBuilder trace) {
        super(seed, trace, WORKERS);
    }

    // --- what happens ---

    @Override
    public void run() {
        for (int i = 0; i < WORKERS; i++) {
            workers.add(new Worker());
        }
        for (int i = 0; i < EVENTS; i++) {
            happen(scheduler.random.nextInt(22));
            check();
        }
        queue.retireNoMore();
        if (scheduler.random.nextInt(4) == 0) {
            unregister();
        } else {
            finish();
        }
        end();
        for (Request request : requests) {
            expect(request.answers.size() == 1, request + " has the answers " + request.answers);
        }
        expect(queue.isEmpty() && mmsQueue.isEmpty(), "a request is left");
    }

    private void happen(int choice) {
        switch (choice) {
            case 0:
            case 1:
            case 2:
                offer();
                return;
            case 3:
            case 4:
            case 5:
                answer();
                return;
            case 6:
                die();
                return;
            case 7:
                restart();
                return;
            case 8:
                retire();
                return;
            case 9:
                recycle();
                return;
            case 10:
                model.setBatchSize(1 + scheduler.random.nextInt(3));
                return;
            case 11:
                RequestQueue.catchUp(model);
                scheduler.settle();
                return;
            default:
                scheduler.step();
        }
    }

    /** A client sends a request; one in eight is on its way into MMS's own queue. */
    private void offer() {
        if (requests.size() < REQUESTS) {
            Request request = new Request(requests.size());
            requests.add(request);
            boolean late = scheduler.random.nextInt(8) == 0;
            scheduler.note("offer " + request + (late ? " to MMS's queue" : ""));
            if (!(late ? mmsQueue : queue).offer(request)) {
                request.answer("full");
            }
            scheduler.settle();
        }
    }

    /** A worker's process answers. */
    private void answer() {
        Worker worker = pick(workers, w -> w.sent != null && w.reply == null);
        if (worker != null) {
            scheduler.note("answer of " + worker);
            worker.reply = worker.response();
        }
    }

    /** A worker's process ends: MMS interrupts its thread, if it runs. */
    private void die() {
        Worker worker = pick(workers, w -> w.thread != null && !w.dying);
        if (worker != null && deaths < 4) {
            deaths++;
            scheduler.note("death of " + worker);
            worker.dying = true;
            worker.interrupt();
        }
    }

    /** MMS starts a worker again. */
    private void restart() {
        Worker worker = pick(ended, w -> true);
        if (worker != null) {
            scheduler.note("start of " + worker);
            ended.remove(worker);
            worker.start();
        }
    }

    /** Fewer workers, as Retire.java and then WorkLoadManager.modelChanged make them. */
    private void retire() {
        if (toRetire == 0 && scalings == 0 && workers.size() > 1) {
            toRetire = 1 + scheduler.random.nextInt(workers.size() - 1);
            scalings++;
        }
        if (toRetire == 0) {
            return;
        }
        int dead = (int) workers.stream().filter(w -> !w.isLoaded()).count();
        boolean busy = queue.retire(Math.max(0, toRetire - dead));
        scheduler.note("retire " + toRetire + ", busy: " + busy);
        scheduler.settle();
        if (busy && scheduler.random.nextInt(4) > 0) {
            return;
        }
        queue.retireNoMore();
        List<Worker> leaving = new ArrayList<>(workers);
        leaving.sort(Comparator.comparingInt(w -> -Retire.rank(w.hasRetired(), w.isLoaded())));
        for (Worker worker : leaving.subList(0, toRetire)) {
            scheduler.note("shutdown of " + worker);
            worker.shutDown();
            scheduler.settle();
        }
        toRetire = 0;
    }

    private void recycle() {
        if (leaver == null) {
            leaver = pick(workers, w -> w.isLoaded() && w.thread != null && w.served > 0);
            if (leaver != null) {
                scheduler.note("recycle " + leaver);
                leaver.recycled = leaver.thread;
                queue.letGo(leaver.thread);
                scheduler.settle();
            }
        } else if (leaver.thread != leaver.recycled) {
            queue.keep(leaver.recycled);
            leaver = null;
        }
    }

    /** No more faults: what has begun comes to its end, and each request has its answer. */
    private void finish() {
        for (boolean moves = true; moves; moves = !isOver() && goOn()) {
            RequestQueue.catchUp(model);
            scheduler.settle();
            check();
        }
    }

    private boolean isOver() {
        return requests.stream().noneMatch(r -> r.answers.isEmpty())
                && workers.stream().allMatch(w -> w.isIdle());
    }

    /** Let something happen that is no fault; false if there is nothing. */
    private boolean goOn() {
        boolean moved = scheduler.step();
        for (Worker worker : workers) {
            if (worker.sent != null && worker.reply == null) {
                worker.reply = worker.response();
                moved = true;
            }
        }
        while (!ended.isEmpty()) {
            restart();
            moved = true;
        }
        return moved;
    }

    /** As MmsModels.remove and Workers.refuseWaiting do; some requests come too late. */
    private void unregister() {
        scheduler.note("unregister");
        while (queue.retire(workers.size())) {
            scheduler.settle();
            expect(goOn(), "a worker never becomes idle");
            check();
        }
        queue.retireNoMore();
        unregistered = true;
        new ArrayList<>(workers).forEach(Worker::shutDown);
        offer();
        RequestQueue.refuse(model);
        offer();
        RequestQueue.refuse(model);
    }

    /** End all threads' tasks, so that the next order can use them. */
    private void end() {
        new ArrayList<>(workers).forEach(Worker::shutDown);
        while (scheduler.step()) {
            scheduler.note("the end");
        }
        for (Scheduler.Actor actor : scheduler.actors) {
            expect(actor.isFree(), actor + " is left");
        }
    }

    // --- what must hold ---

    private void check() {
        for (Request request : requests) {
            expect(request.answers.size() < 2, request + " has the answers " + request.answers);
        }
        boolean woken = scheduler.actors.stream().anyMatch(a -> !a.isFree() && !isWaiting(a));
        synchronized (idle) {
            expect(
                    woken || idle.isEmpty() || queue.isEmpty(),
                    queue.size() + " requests wait while " + idle.size() + " workers are idle");
        }
    }

    private <T> T pick(List<T> all, Predicate<T> suits) {
        List<T> found = new ArrayList<>(all);
        found.removeIf(suits.negate());
        return found.isEmpty() ? null : found.get(scheduler.random.nextInt(found.size()));
    }
}
