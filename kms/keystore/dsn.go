package keystore

// Location names the store's database for people: for sqlite by its path, else without what
// the DSN may have of passwords.
func (c Config) Location() string {
	dialect, ok := dialectOf(c.Driver)
	if !ok {
		return "a store of an unknown driver"
	}
	return dialect.location(c.DSN)
}

// CheckDSN reports what can be seen to be wrong with a DSN before anything is opened, without
// showing any part of it that could be a password. password tells that the DSN has one.
func CheckDSN(driver, dsn string) (password bool, err error) {
	if driver != driverPostgres {
		return false, nil
	}
	if _, err := postgresConfig(dsn); err != nil {
		return false, err
	}
	return hasPassword(dsn), nil
}
