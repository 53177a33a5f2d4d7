package mms_handler;

import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;

/**
 * Runs real threads one at a time.  Each stops where it calls {@link #pause}; which one goes on is
 * chosen by the seed, so the same seed gives the same order.
 */
final class Scheduler {
    /** A thread whose steps are chosen here. */
    static final class Actor extends Thread {
        private final Scheduler scheduler;

        /** Its next task; it may go on only when there is one. */
        private Runnable task;

        /** Where it stops: null while it runs. */
        private volatile String place = "idle";

        private volatile boolean go;

        /** The place that it has left last. */
        private String left;

        /** Whether it is interrupted as soon as it goes on. */
        private volatile boolean interrupted;

        /** Whether it was interrupted while it waited for another thread, and has not stopped yet. */
        private volatile boolean moving;

        /** What it waits for; null if it can go on at any time. */
        private Condition condition;

        Actor(Scheduler scheduler, int number) {
            super("actor-" + number);
            this.scheduler = scheduler;
            setDaemon(true);
        }

        @Override
        public void run() {
            for (; ; ) {
                stop("idle");
                try {
                    task.run();
                } catch (Throwable e) {
                    scheduler.failure = e; // for settle()
                }
                task = null;
                condition = null;
            }
        }

        /** Wait until the scheduler lets this thread go on. */
        private void stop(String newPlace) {
            interrupted |= Thread.interrupted();
            moving = false;
            place = newPlace;
            while (!go) {
                LockSupport.park(this);
            }
            go = false;
            if (interrupted) {
                super.interrupt();
            }
            interrupted = false;
        }

        /** End its waiting, now or as soon as it would wait. */
        @Override
        public void interrupt() {
            if (place == null) {
                moving = true;
                super.interrupt();
            } else {
                interrupted = true;
            }
        }

        private boolean hasStopped() {
            return place != null
                    || !moving && "unlock".equals(left) && scheduler.waits.in(this);
        }

        @Override
        public String toString() {
            return getName() + " at " + place + " after " + left;
        }

        boolean isFree() {
            return task == null && "idle".equals(place);
        }

        private boolean canRun() {
            return place != null
                    && task != null
                    && (condition == null || interrupted || condition.holds());
        }
    }

    /** What a thread waits for. */
    interface Condition {
        boolean holds();
    }

    /** Whether a running thread waits in the code itself, where only another one can wake it. */
    interface Waits {
        boolean in(Thread thread);
    }

    /** A lock whose waiting is the scheduler's. */
    final class Lock extends ReentrantLock {
        private static final long serialVersionUID = 1L;

        private transient Thread owner;

        @Override
        public void lockInterruptibly() throws InterruptedException {
            pause("lock", () -> owner == null);
            if (Thread.interrupted()) {
                throw new InterruptedException();
            }
            owner = Thread.currentThread();
        }

        @Override
        public boolean tryLock() {
            return owner == null;
        }

        @Override
        public void unlock() {
            owner = null;
            pause("unlock", null);
        }

        @Override
        public boolean isHeldByCurrentThread() {
            return owner == Thread.currentThread();
        }
    }

    SplittableRandom random;
    final List<Actor> actors = new ArrayList<>();
    private final Waits waits;
    private volatile Throwable failure;

    /** The places where threads went on, if they are recorded. */
    StringBuilder trace;

    Scheduler(int threads, Waits waits) {
        this.waits = waits;
        for (int i = 0; i < threads; i++) {
            actors.add(new Actor(this, i));
            actors.get(i).start();
        }
    }

    /** A thread of this scheduler stops here until it is chosen; other threads pass. */
    void pause(String place, Condition condition) {
        Thread thread = Thread.currentThread();
        if (thread instanceof Actor) {
            ((Actor) thread).condition = condition;
            ((Actor) thread).stop(place);
        }
    }

    /** Give a task to a thread that has none; it stays where it is until it is chosen. */
    Actor start(Runnable task) {
        List<Actor> free = new ArrayList<>();
        for (Actor actor : actors) {
            if (actor.isFree()) {
                free.add(actor);
            }
        }
        Actor actor = free.get(random.nextInt(free.size()));
        actor.interrupted = false;
        actor.task = task;
        return actor;
    }

    /** Let one thread that can go on do so, to its next stop; false if there is none. */
    boolean step() {
        List<Actor> ready = new ArrayList<>();
        for (Actor actor : actors) {
            if (actor.canRun()) {
                ready.add(actor);
            }
        }
        if (ready.isEmpty()) {
            return false;
        }
        Actor actor = ready.get(random.nextInt(ready.size()));
        note(actor.getName() + " from " + actor.place);
        actor.left = actor.place;
        actor.moving = actor.interrupted;
        actor.place = null;
        actor.go = true;
        LockSupport.unpark(actor);
        settle();
        return true;
    }

    /** Wait until each thread has stopped, or waits for another one. */
    void settle() {
        // Twice, because a thread may wake one that was looked at before.
        for (int passes = 0; passes < 2; passes++) {
            for (Actor actor : actors) {
                while (!actor.hasStopped()) {
                    passes = 0;
                    Thread.yield();
                }
            }
        }
        if (failure != null) {
            throw new AssertionError("a thread failed", failure);
        }
    }

    void note(String line) {
        if (trace != null) {
            trace.append(line).append('\n');
        }
    }
}
