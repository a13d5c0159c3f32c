// Package hsmbench measures what a token does in a second, through the same contract that
// the service uses: blocks, GCM items, signatures, tags, random bytes, key generation.
//
// It uses nothing but scratch keys, which it generates in the token and destroys. They are
// token objects, as the service's keys are: session objects are faster on some modules and
// would say too much. No other object is touched, so that a token in use may be measured;
// what else uses the token at that time shares its speed, of course.
package hsmbench
