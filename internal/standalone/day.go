package standalone

import (
	"hash/fnv"
	"math"
	"strconv"
	"time"
)

// A simulated day at speed 1, and at what time of it the demo goes on: shortly before the morning's rush.
const (
	hourLasts = 30 * time.Second
	dayLasts  = 24 * hourLasts
	firstHour = 8.25
	wobble    = 1.2 // percentage points by which the load is off its course, at most
)

// point is how much the VMs of a cluster ask for at an hour, in percent of its CPU.
type point struct{ hour, percent float64 }

// day is the course of a load. Between two points it is a straight line; the last leads to the first of the next day.
type day []point

// The days of the two clusters: one is busy with people, the other with what runs in the evening.
var (
	workingDay = day{{0, 42}, {5, 40}, {8, 60}, {8.75, 74}, {9.25, 93}, {11, 96}, {12.5, 80}, {14, 93}, {16.5, 88}, {18, 66}, {21, 52}}
	eveningDay = day{{0, 55}, {2, 42}, {8, 45}, {12, 60}, {17, 66}, {19.5, 72}, {20, 86}, {22, 87}, {23, 64}}
)

// at is the load at an hour of the day, with a wobble that is the same in each run: seed tells one cluster from another.
func (d day) at(hour float64, seed string) float64 {
	return d.course(hour) + wobble*noise(seed, 4*hour)
}

func (d day) course(hour float64) float64 {
	next := 0
	for next < len(d) && d[next].hour <= hour {
		next++
	}
	from, to := d[(next+len(d)-1)%len(d)], d[next%len(d)]
	span, gone := math.Mod(to.hour-from.hour+24, 24), math.Mod(hour-from.hour+24, 24)
	return from.percent + (to.percent-from.percent)*gone/span
}

// noise is a smooth course between -1 and 1, by whole numbers of x.
func noise(seed string, x float64) float64 {
	whole, part := math.Floor(x), x-math.Floor(x)
	part = part * part * (3 - 2*part)
	return knot(seed, whole)*(1-part) + knot(seed, whole+1)*part
}

func knot(seed string, n float64) float64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(seed + strconv.Itoa(int(n)%(4*24))))
	return 2*float64(h.Sum32())/math.MaxUint32 - 1
}

// hourAfter is the hour of the simulated day when so much time has passed.
func hourAfter(passed time.Duration, speed float64) float64 {
	return math.Mod(firstHour+passed.Seconds()/hourLasts.Seconds()*speed, 24)
}

// timeOfDay writes an hour as people do.
func timeOfDay(hour float64) string {
	return time.Time{}.Add(time.Duration(hour * float64(time.Hour))).Format("15:04")
}
