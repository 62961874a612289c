"""From verdicts to alarms."""

from sspcab_runtime.daemon.alarms.alarm import Alarm, AlarmClosed, AlarmOpened, Worst
from sspcab_runtime.daemon.alarms.camera import CameraAlarms

__all__ = ["Alarm", "AlarmClosed", "AlarmOpened", "CameraAlarms", "Worst"]
