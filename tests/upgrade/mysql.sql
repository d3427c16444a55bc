-- What Django 1.11 created on MySQL for django-celery-monitor 1.1.2.
CREATE TABLE `django_migrations` (`id` integer AUTO_INCREMENT NOT NULL PRIMARY KEY, `app` varchar(255) NOT NULL, `name` varchar(255) NOT NULL, `applied` datetime(6) NOT NULL);
CREATE TABLE `celery_monitor_workerstate` (`id` integer AUTO_INCREMENT NOT NULL PRIMARY KEY, `hostname` varchar(255) NOT NULL UNIQUE, `last_heartbeat` datetime(6) NULL);
CREATE TABLE `celery_monitor_taskstate` (`id` integer AUTO_INCREMENT NOT NULL PRIMARY KEY, `state` varchar(64) NOT NULL, `task_id` varchar(36) NOT NULL UNIQUE, `name` varchar(200) NULL, `tstamp` datetime(6) NOT NULL, `args` longtext NULL, `kwargs` longtext NULL, `eta` datetime(6) NULL, `expires` datetime(6) NULL, `result` longtext NULL, `traceback` longtext NULL, `runtime` double precision NULL, `retries` integer NOT NULL, `hidden` bool NOT NULL, `worker_id` integer NULL);
CREATE INDEX `celery_monitor_workerstate_last_heartbeat_923d77ff` ON `celery_monitor_workerstate` (`last_heartbeat`);
ALTER TABLE `celery_monitor_taskstate` ADD CONSTRAINT `celery_monitor_tasks_worker_id_d4c83d67_fk_celery_mo` FOREIGN KEY (`worker_id`) REFERENCES `celery_monitor_workerstate` (`id`);
CREATE INDEX `celery_monitor_taskstate_state_085c436d` ON `celery_monitor_taskstate` (`state`);
CREATE INDEX `celery_monitor_taskstate_name_0b3e4fa1` ON `celery_monitor_taskstate` (`name`);
CREATE INDEX `celery_monitor_taskstate_tstamp_a40fc550` ON `celery_monitor_taskstate` (`tstamp`);
CREATE INDEX `celery_monitor_taskstate_hidden_3d2fd4c2` ON `celery_monitor_taskstate` (`hidden`);
ALTER TABLE `celery_monitor_workerstate` ADD COLUMN `last_update` datetime(6) DEFAULT '2018-05-04 10:00:01.000000' NOT NULL;
ALTER TABLE `celery_monitor_workerstate` ALTER COLUMN `last_update` DROP DEFAULT;
INSERT INTO `django_migrations` (`app`, `name`, `applied`) VALUES ('celery_monitor', '0001_initial', '2018-05-04 10:00:00');
INSERT INTO `django_migrations` (`app`, `name`, `applied`) VALUES ('celery_monitor', '0002_workerstate_last_update', '2018-05-04 10:00:01');
