-- What Django 1.11 created on SQLite for django-celery-monitor 1.1.2.
CREATE TABLE "django_migrations" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "app" varchar(255) NOT NULL, "name" varchar(255) NOT NULL, "applied" datetime NOT NULL);
CREATE TABLE "celery_monitor_workerstate" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "hostname" varchar(255) NOT NULL UNIQUE, "last_heartbeat" datetime NULL, "last_update" datetime NOT NULL);
CREATE TABLE "celery_monitor_taskstate" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "state" varchar(64) NOT NULL, "task_id" varchar(36) NOT NULL UNIQUE, "name" varchar(200) NULL, "tstamp" datetime NOT NULL, "args" text NULL, "kwargs" text NULL, "eta" datetime NULL, "expires" datetime NULL, "result" text NULL, "traceback" text NULL, "runtime" real NULL, "retries" integer NOT NULL, "hidden" bool NOT NULL, "worker_id" integer NULL REFERENCES "celery_monitor_workerstate" ("id"));
CREATE INDEX "celery_monitor_workerstate_last_heartbeat_923d77ff" ON "celery_monitor_workerstate" ("last_heartbeat");
CREATE INDEX "celery_monitor_taskstate_state_085c436d" ON "celery_monitor_taskstate" ("state");
CREATE INDEX "celery_monitor_taskstate_name_0b3e4fa1" ON "celery_monitor_taskstate" ("name");
CREATE INDEX "celery_monitor_taskstate_tstamp_a40fc550" ON "celery_monitor_taskstate" ("tstamp");
CREATE INDEX "celery_monitor_taskstate_hidden_3d2fd4c2" ON "celery_monitor_taskstate" ("hidden");
CREATE INDEX "celery_monitor_taskstate_worker_id_d4c83d67" ON "celery_monitor_taskstate" ("worker_id");
INSERT INTO "django_migrations" ("app", "name", "applied") VALUES ('celery_monitor', '0001_initial', '2018-05-04 10:00:00');
INSERT INTO "django_migrations" ("app", "name", "applied") VALUES ('celery_monitor', '0002_workerstate_last_update', '2018-05-04 10:00:01');
