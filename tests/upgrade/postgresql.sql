-- What Django 1.11 created on PostgreSQL for django-celery-monitor 1.1.2.
CREATE TABLE "django_migrations" ("id" serial NOT NULL PRIMARY KEY, "app" varchar(255) NOT NULL, "name" varchar(255) NOT NULL, "applied" timestamp with time zone NOT NULL);
CREATE TABLE "celery_monitor_workerstate" ("id" serial NOT NULL PRIMARY KEY, "hostname" varchar(255) NOT NULL UNIQUE, "last_heartbeat" timestamp with time zone NULL);
CREATE TABLE "celery_monitor_taskstate" ("id" serial NOT NULL PRIMARY KEY, "state" varchar(64) NOT NULL, "task_id" varchar(36) NOT NULL UNIQUE, "name" varchar(200) NULL, "tstamp" timestamp with time zone NOT NULL, "args" text NULL, "kwargs" text NULL, "eta" timestamp with time zone NULL, "expires" timestamp with time zone NULL, "result" text NULL, "traceback" text NULL, "runtime" double precision NULL, "retries" integer NOT NULL, "hidden" boolean NOT NULL, "worker_id" integer NULL);
CREATE INDEX "celery_monitor_workerstate_hostname_68feeafb_like" ON "celery_monitor_workerstate" ("hostname" varchar_pattern_ops);
CREATE INDEX "celery_monitor_workerstate_last_heartbeat_923d77ff" ON "celery_monitor_workerstate" ("last_heartbeat");
ALTER TABLE "celery_monitor_taskstate" ADD CONSTRAINT "celery_monitor_tasks_worker_id_d4c83d67_fk_celery_mo" FOREIGN KEY ("worker_id") REFERENCES "celery_monitor_workerstate" ("id") DEFERRABLE INITIALLY DEFERRED;
CREATE INDEX "celery_monitor_taskstate_state_085c436d" ON "celery_monitor_taskstate" ("state");
CREATE INDEX "celery_monitor_taskstate_state_085c436d_like" ON "celery_monitor_taskstate" ("state" varchar_pattern_ops);
CREATE INDEX "celery_monitor_taskstate_task_id_7c10b9cf_like" ON "celery_monitor_taskstate" ("task_id" varchar_pattern_ops);
CREATE INDEX "celery_monitor_taskstate_name_0b3e4fa1" ON "celery_monitor_taskstate" ("name");
CREATE INDEX "celery_monitor_taskstate_name_0b3e4fa1_like" ON "celery_monitor_taskstate" ("name" varchar_pattern_ops);
CREATE INDEX "celery_monitor_taskstate_tstamp_a40fc550" ON "celery_monitor_taskstate" ("tstamp");
CREATE INDEX "celery_monitor_taskstate_hidden_3d2fd4c2" ON "celery_monitor_taskstate" ("hidden");
CREATE INDEX "celery_monitor_taskstate_worker_id_d4c83d67" ON "celery_monitor_taskstate" ("worker_id");
ALTER TABLE "celery_monitor_workerstate" ADD COLUMN "last_update" timestamp with time zone DEFAULT '2018-05-04T10:00:01+00:00'::timestamptz NOT NULL;
ALTER TABLE "celery_monitor_workerstate" ALTER COLUMN "last_update" DROP DEFAULT;
INSERT INTO "django_migrations" ("app", "name", "applied") VALUES ('celery_monitor', '0001_initial', '2018-05-04T10:00:00+00:00');
INSERT INTO "django_migrations" ("app", "name", "applied") VALUES ('celery_monitor', '0002_workerstate_last_update', '2018-05-04T10:00:01+00:00');
